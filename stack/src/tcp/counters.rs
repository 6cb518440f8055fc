//! What TCP counts. Names follow Linux's (`nstat`) where Linux has the counter.

crate::counters! {
    /// TCP's counters.
    pub struct TcpCounters {
        /// Segments received.
        segments_in,
        /// Segments sent, without retransmissions.
        segments_out,
        /// Segments sent again.
        retransmitted,
        /// Segments dropped because their header or options are malformed.
        malformed,
        /// Segments dropped because they are signed (RFC 2385), and we have no keys.
        md5_unexpected,
        /// RSTs sent.
        resets_out,
        /// RSTs accepted.
        resets_in,
        /// Connections opened by connect.
        active_opens,
        /// Connections opened by a listener.
        passive_opens,
        /// Openings that failed.
        attempt_failures,
        /// Established connections that were reset.
        established_resets,
        /// Segments that matched no socket.
        no_socket,
        /// SYNs dropped because the listener's SYN queue was full.
        syn_queue_full,
        /// SYNs answered with a cookie because the listener's SYN queue was full.
        syncookies_sent,
        /// Final ACKs that brought back a good cookie.
        syncookies_recv,
        /// Final ACKs whose cookie was not ours, or too old.
        syncookies_failed,
        /// SYNs and final ACKs dropped because the accept queue was full.
        accept_queue_full,
        /// Connections whose SYN's data was taken (RFC 7413).
        fast_open_passive,
        /// SYNs with data not taken: a wrong cookie, or no socket left.
        fast_open_passive_fail,
        /// SYNs with data not taken: the listener's Fast Open queue was full.
        fast_open_overflow,
        /// Requests for a cookie.
        fast_open_cookie_requests,
        /// SYN-ACKs sent again.
        synack_retransmitted,
        /// Challenge ACKs sent (RFC 5961).
        challenge_acks,
        /// Challenge ACKs not sent because the budget was spent.
        challenge_acks_suppressed,
        /// Segments dropped by PAWS (RFC 7323 §5).
        paws_rejected,
        /// Segments dropped because they lie outside the window.
        out_of_window,
        /// Segments dropped because they acknowledge what was never sent, or too old an octet.
        bad_ack,
        /// Segments handled by header prediction, data.
        predicted_data,
        /// Segments handled by header prediction, pure ACKs.
        predicted_acks,
        /// Segments queued out of order.
        out_of_order,
        /// Segments that held nothing new.
        duplicate_data,
        /// Payload joined with the segment before it to save buffers.
        coalesced,
        /// Payload dropped because the receive buffer was full.
        receive_buffer_full,
        /// Payload dropped because the segment table or the packet pool was exhausted.
        receive_no_memory,
        /// Payload that arrived after the program had closed.
        data_after_close,
        /// Delayed ACKs sent.
        delayed_acks,
        /// Retransmission timeouts.
        timeouts,
        /// Tail loss probes sent (RFC 8985).
        tail_loss_probes,
        /// Windows reduced because the network marked packets (ECN).
        ecn_reductions,
        /// Packets that arrived with the network's mark (ECN: CE).
        ce_received,
        /// Fast recoveries entered.
        fast_recoveries,
        /// Window probes sent.
        window_probes,
        /// Keepalive probes sent.
        keepalives,
        /// Connections given up because the peer did not answer.
        timed_out,
        /// Connections reset because their program had gone and data was unread or kept arriving.
        aborted_on_close,
        /// Orphans in FIN-WAIT-2 whose time was up.
        orphans_timed_out,
        /// Connections reset at close because too many others were finishing on their own.
        orphans_refused,
        /// Connections that entered TIME-WAIT.
        time_waits,
        /// Connections not kept in TIME-WAIT because its table was full.
        time_wait_overflow,
        /// TIME-WAIT entries reused by a new connection (RFC 6191).
        time_wait_reused,
        /// Reductions of the window taken back because the retransmission was needless.
        undos,
        /// ICMP errors that named one of our connections.
        icmp_errors,
        /// ICMP errors that named a sequence number not in flight.
        icmp_out_of_window,
        /// Connections whose path turned out to have a smaller MTU.
        path_mtu_reduced,
        /// Connections that tried their path's former MTU again.
        path_mtu_expired,
        /// Probes of a larger MTU sent (RFC 4821).
        mtu_probes,
        /// Those that arrived.
        mtu_probes_succeeded,
        /// Those that were lost.
        mtu_probes_failed,
        /// Suspicions that a router drops what is too large without saying so.
        mtu_black_holes,
        /// Connections whose path's MTU is not tried again, for the table was full.
        path_table_full,
        /// Reports of `SO_TIMESTAMPING` dropped because nobody read those before.
        stamps_dropped,
        /// Answers not sent because the queue of answers was full.
        replies_dropped,
        /// Packets not sent for want of a buffer.
        transmit_no_memory,
        /// Sends refused for want of buffers.
        send_no_memory,
        /// Listeners and sockets refused because the socket table was full.
        sockets_exhausted,
    }
}
