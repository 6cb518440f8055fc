/* What bindgen reads: the part of DPDK that the safe layer uses. */
#include <rte_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_lcore.h>
#include <rte_version.h>
#include <rte_dev.h>
#include <rte_bus.h>
#include <rte_malloc.h>
#include <rte_mempool.h>
#include <rte_mbuf.h>
#include <rte_ethdev.h>
#include "glue.h"

/* The fields of an mbuf that the fast path touches, as offsets: whatever unions and markers this
 * release wraps around them, the compiler knows where they are. */
enum onwire_mbuf_offset {
	ONWIRE_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	ONWIRE_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	ONWIRE_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	ONWIRE_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	ONWIRE_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	ONWIRE_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	ONWIRE_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	ONWIRE_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	ONWIRE_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
	ONWIRE_MBUF_NEXT = offsetof(struct rte_mbuf, next),
	ONWIRE_MBUF_SIZE = sizeof(struct rte_mbuf),
	ONWIRE_MBUF_POOL = offsetof(struct rte_mbuf, pool),
	ONWIRE_POOL_HEADER_SIZE = sizeof(struct rte_mempool),
	ONWIRE_POOL_PRIVATE_SIZE = sizeof(struct rte_pktmbuf_pool_private),
};

/* Macros that bindgen cannot evaluate. */
enum onwire_mbuf_flag {
	ONWIRE_L2_LEN_BITS = RTE_MBUF_L2_LEN_BITS,
	ONWIRE_L3_LEN_BITS = RTE_MBUF_L3_LEN_BITS,
	ONWIRE_L4_LEN_BITS = RTE_MBUF_L4_LEN_BITS,
};
static const uint64_t ONWIRE_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t ONWIRE_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t ONWIRE_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t ONWIRE_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t ONWIRE_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t ONWIRE_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t ONWIRE_RX_L4_CKSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;
static const uint64_t ONWIRE_MBUF_ATTACHED = RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
static const uint64_t ONWIRE_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t ONWIRE_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t ONWIRE_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t ONWIRE_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t ONWIRE_TX_UDP_CKSUM = RTE_MBUF_F_TX_UDP_CKSUM;
static const uint64_t ONWIRE_TX_TCP_SEG = RTE_MBUF_F_TX_TCP_SEG;
static const uint64_t ONWIRE_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t ONWIRE_RX_OFFLOAD_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t ONWIRE_RX_OFFLOAD_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t ONWIRE_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t ONWIRE_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t ONWIRE_TX_OFFLOAD_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t ONWIRE_TX_OFFLOAD_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t ONWIRE_TX_OFFLOAD_UDP_CKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t ONWIRE_TX_OFFLOAD_TCP_TSO = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint64_t ONWIRE_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t ONWIRE_RX_LRO = RTE_MBUF_F_RX_LRO;
static const uint64_t ONWIRE_RX_OFFLOAD_TCP_LRO = RTE_ETH_RX_OFFLOAD_TCP_LRO;
static const unsigned int ONWIRE_MEMPOOL_NO_IOVA_CONTIG = RTE_MEMPOOL_F_NO_IOVA_CONTIG;
static const uint32_t ONWIRE_DEV_NOLIVE_MAC_ADDR = RTE_ETH_DEV_NOLIVE_MAC_ADDR;
static const uint64_t ONWIRE_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t ONWIRE_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t ONWIRE_RSS_UDP = RTE_ETH_RSS_UDP;

/* rte_errno is a thread-local behind a macro. */
static inline int onwire_rte_errno(void) { return rte_errno; }
