//! `TCP_INFO`: the stack's figures in the layout of Linux's `struct tcp_info` (linux/tcp.h).
//!
//! A program with an older, shorter struct gets its beginning.

use stack::tcp::TcpInfo;

/// Octets of the struct as of Linux 6.18.
const LEN: usize = 280;

/// The figures of a socket, as Linux lays them out.
#[must_use]
pub fn encode(i: &TcpInfo) -> Vec<u8> {
    let mut out = Vec::with_capacity(LEN);
    out.extend([i.state, i.ca_state, i.retransmits, i.probes, i.backoff, i.options]);
    out.push(i.snd_wscale & 0xf | i.rcv_wscale << 4);
    out.push(u8::from(i.delivery_rate_app_limited) | (i.fastopen_client_fail & 3) << 1);
    let words = |out: &mut Vec<u8>, values: &[u32]| {
        values.iter().for_each(|value| out.extend(value.to_ne_bytes()));
    };
    let longs = |out: &mut Vec<u8>, values: &[u64]| {
        values.iter().for_each(|value| out.extend(value.to_ne_bytes()));
    };
    words(&mut out, &[i.rto, i.ato, i.snd_mss, i.rcv_mss]);
    words(&mut out, &[i.unacked, i.sacked, i.lost, i.retrans, i.fackets]);
    words(&mut out, &[i.last_data_sent_ms, i.last_ack_sent_ms]);
    words(&mut out, &[i.last_data_recv_ms, i.last_ack_recv_ms]);
    words(&mut out, &[i.pmtu, i.rcv_ssthresh, i.rtt, i.rttvar, i.snd_ssthresh, i.snd_cwnd]);
    words(&mut out, &[i.advmss, i.reordering, i.rcv_rtt, i.rcv_space, i.total_retrans]);
    longs(&mut out, &[i.pacing_rate, i.max_pacing_rate, i.bytes_acked, i.bytes_received]);
    words(&mut out, &[i.segs_out, i.segs_in, i.notsent_bytes, i.min_rtt]);
    words(&mut out, &[i.data_segs_in, i.data_segs_out]);
    longs(&mut out, &[i.delivery_rate, i.busy_time, i.rwnd_limited, i.sndbuf_limited]);
    words(&mut out, &[i.delivered, i.delivered_ce]);
    longs(&mut out, &[i.bytes_sent, i.bytes_retrans]);
    words(&mut out, &[i.dsack_dups, i.reord_seen, i.rcv_ooopack, i.snd_wnd]);
    words(&mut out, &[i.rcv_wnd, i.rehash]);
    out.extend(i.total_rto.to_ne_bytes());
    out.extend(i.total_rto_recoveries.to_ne_bytes());
    words(&mut out, &[i.total_rto_time_ms]);
    // What follows is about accurate ECN.
    out.resize(LEN, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_linux_has_them() {
        let info = TcpInfo {
            state: 1,
            snd_wscale: 7,
            rcv_wscale: 9,
            rtt: 0x0102_0304,
            pacing_rate: 0x1122_3344_5566_7788,
            snd_wnd: 0x0a0b_0c0d,
            total_rto_time_ms: 5,
            ..TcpInfo::default()
        };
        let out = encode(&info);
        assert_eq!(out.len(), LEN);
        assert_eq!((out[0], out[6]), (1, 0x97));
        assert_eq!(out[68..72], 0x0102_0304u32.to_ne_bytes()); // offsetof(tcpi_rtt)
        assert_eq!(out[104..112], 0x1122_3344_5566_7788u64.to_ne_bytes()); // tcpi_pacing_rate
        assert_eq!(out[228..232], 0x0a0b_0c0du32.to_ne_bytes()); // tcpi_snd_wnd
        assert_eq!(out[244..248], 5u32.to_ne_bytes());
    }
}
