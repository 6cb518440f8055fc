//! The eleven states of RFC 9293 §3.3.2, in one table.

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $ss:literal;)*) => {
        /// The state of a connection. The numbers are those of Linux's `tcpi_state`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum State { $($(#[$doc])* $name = $number,)* }

        impl State {
            /// Every state.
            pub const ALL: &'static [State] = &[$(State::$name,)*];

            /// The RFC's name, such as `SYN-SENT`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(State::$name => $text,)* }
            }

            /// The name that ss(8) prints, such as `SYN-SENT` or `ESTAB`.
            #[must_use]
            pub const fn ss_name(self) -> &'static str {
                match self { $(State::$name => $ss,)* }
            }
        }
    };
}

states! {
    /// Data flows both ways.
    Established = 1, "ESTABLISHED", "ESTAB";
    /// Our SYN is out.
    SynSent = 2, "SYN-SENT", "SYN-SENT";
    /// Both SYNs are out, ours is not acknowledged.
    SynReceived = 3, "SYN-RECEIVED", "SYN-RECV";
    /// Our FIN is out, not acknowledged.
    FinWait1 = 4, "FIN-WAIT-1", "FIN-WAIT-1";
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2 = 5, "FIN-WAIT-2", "FIN-WAIT-2";
    /// Both FINs are acknowledged; old segments die out.
    TimeWait = 6, "TIME-WAIT", "TIME-WAIT";
    /// No connection.
    Closed = 7, "CLOSED", "UNCONN";
    /// The peer's FIN is here; we may still send.
    CloseWait = 8, "CLOSE-WAIT", "CLOSE-WAIT";
    /// Our FIN followed the peer's and is not acknowledged.
    LastAck = 9, "LAST-ACK", "LAST-ACK";
    /// Waiting for SYNs.
    Listen = 10, "LISTEN", "LISTEN";
    /// Both FINs crossed; ours is not acknowledged.
    Closing = 11, "CLOSING", "CLOSING";
}

impl State {
    /// Whether both SYNs have been acknowledged and the connection is not over.
    #[must_use]
    pub const fn is_synchronized(self) -> bool {
        !matches!(self, Self::SynSent | Self::SynReceived | Self::Closed | Self::Listen)
    }

    /// Whether the program may still send. (In SYN-RECEIVED too: only connections ask that began
    /// with data in the SYN.)
    #[must_use]
    pub const fn can_send(self) -> bool {
        matches!(self, Self::Established | Self::CloseWait | Self::SynReceived)
    }

    /// Whether the peer may still send: its FIN has not come.
    #[must_use]
    pub const fn can_receive(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2 | Self::SynReceived)
    }
}
