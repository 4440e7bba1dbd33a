//! Sequences of socket calls that Linux and a daemon must answer alike, readiness after each call included.

/// A listener `l` on port 1, a connected client `a`, the accepted `b`.
macro_rules! pair {
    ($rest:literal) => {
        concat!("tcp l; bind l lo:1; listen l 5; tcp a; connect a lo:1; connect a lo:1; accept l b; ", $rest)
    };
}
/// The same over IPv6.
macro_rules! pair6 {
    ($rest:literal) => {
        concat!("tcp6 l; bind l lo6:1; listen l 5; tcp6 a; connect a lo6:1; connect a lo6:1; accept l b; ", $rest)
    };
}
/// Two UDP sockets on ports 1 and 2.
macro_rules! udp {
    ($rest:literal) => {
        concat!("udp a; bind a lo:1; udp b; bind b lo:2; ", $rest)
    };
}

/// Name and calls.
pub const SEQUENCES: &[(&str, &str)] = &[
    // A fresh TCP socket.
    ("fresh_tcp", "tcp a; name a; peer a; err a"),
    ("fresh_tcp6", "tcp6 a; name a; peer a; err a"),
    ("fresh_send", "tcp a; send a 5; err a"),
    ("fresh_send_nothing", "tcp a; send a 0"),
    ("fresh_recv", "tcp a; recv a 5; recv a 0; err a"),
    ("fresh_recv_peek", "tcp a; recv a 5 peek"),
    ("fresh_recv_errqueue", "tcp a; recv a 5 errq"),
    ("fresh_recv_oob", "tcp a; recv a 5 oob"),
    ("fresh_shutdown", "tcp a; shut a r; shut a w; shut a rw; shut a 3; shut a -1"),
    ("fresh_accept", "tcp a; accept a b"),
    ("fresh_ioctls", "tcp a; ioctl a INQ; ioctl a OUTQ; ioctl a OUTQNSD; ioctl a ATMARK; ioctl a BOGUS"),
    ("fresh_disconnect", "tcp a; disc a; name a; disc a"),
    ("fresh_sendto", "tcp a; send a 5 lo:1"),
    // socket(2).
    (
        "socket_families",
        "socket 1000 1 0; socket 2 99 0; socket 2 1 17; socket 2 2 6; socket 2 1 6; socket 2 2 17; socket 10 1 0",
    ),
    ("socket_protocols", "socket 2 1 999; socket 2 1 -1; socket 2 0 0; socket 10 2 6; socket 2 1 262; socket 2 2 136"),
    ("socket_flags", "socket 2 2049 0; socket 2 524289 0; socket 2 4194305 0"),
    // bind(2).
    ("bind_any_port", "tcp a; bind a lo:0; name a; bind a lo:0; bind a lo:1"),
    ("bind_wildcard", "tcp a; bind a any:1; name a; peer a"),
    ("bind_twice", "tcp a; bind a lo:1; bind a lo:2"),
    ("bind_not_ours", "tcp a; bind a bad:1; name a; bind a lo:1"),
    ("bind_not_ours_freebind", "tcp a; set a IP_FREEBIND 1; bind a bad:1; name a"),
    ("bind_multicast", "tcp a; bind a mcast:1; udp b; bind b mcast:1; name b"),
    ("bind_broadcast", "tcp a; bind a bcast:1; udp b; bind b bcast:1; name b"),
    ("bind_v6_address_on_v4", "tcp a; bind a lo6:1; udp b; bind b lo6:1"),
    ("bind_v4_address_on_v6", "tcp6 a; bind a lo:1; udp6 b; bind b lo:1"),
    ("bind_mapped_on_v6", "tcp6 a; bind a map:1; name a"),
    ("bind_mapped_on_v6only", "tcp6 a; set a IPV6_V6ONLY 1; bind a map:1; name a"),
    ("bind_conflict", "tcp a; bind a lo:1; tcp b; bind b lo:1; bind b any:1; bind b lo2:1"),
    ("bind_conflict_wildcard", "tcp a; bind a any:1; tcp b; bind b lo:1; bind b any:1"),
    ("bind_conflict_v6_v4", "tcp6 a; bind a any6:1; tcp b; bind b any:1; bind b lo:1"),
    ("bind_no_conflict_v6only", "tcp6 a; set a IPV6_V6ONLY 1; bind a any6:1; tcp b; bind b any:1"),
    ("bind_conflict_v4_v6", "tcp a; bind a lo:1; tcp6 b; bind b any6:1; bind b lo6:1"),
    ("bind_reuseaddr_one", "tcp a; set a SO_REUSEADDR 1; bind a lo:1; tcp b; bind b lo:1"),
    ("bind_reuseaddr_other", "tcp a; bind a lo:1; tcp b; set b SO_REUSEADDR 1; bind b lo:1"),
    (
        "bind_reuseaddr_both",
        "tcp a; set a SO_REUSEADDR 1; bind a lo:1; tcp b; set b SO_REUSEADDR 1; bind b lo:1; listen a 1; listen b 1",
    ),
    (
        "bind_reuseaddr_listener",
        "tcp a; set a SO_REUSEADDR 1; bind a lo:1; listen a 1; tcp b; set b SO_REUSEADDR 1; bind b lo:1",
    ),
    ("bind_reuseaddr_later", "tcp a; bind a lo:1; set a SO_REUSEADDR 1; tcp b; set b SO_REUSEADDR 1; bind b lo:1"),
    (
        "bind_reuseport_both",
        "tcp a; set a SO_REUSEPORT 1; bind a lo:1; tcp b; set b SO_REUSEPORT 1; bind b lo:1; listen a 1; listen b 1",
    ),
    ("bind_reuseport_one", "tcp a; set a SO_REUSEPORT 1; bind a lo:1; tcp b; bind b lo:1"),
    ("bind_reuseport_late", "tcp a; bind a lo:1; set a SO_REUSEPORT 1; tcp b; set b SO_REUSEPORT 1; bind b lo:1"),
    ("bind_reuseport_wildcard", "tcp a; set a SO_REUSEPORT 1; bind a any:1; tcp b; set b SO_REUSEPORT 1; bind b lo:1"),
    ("bind_reuse_mixed", "tcp a; set a SO_REUSEPORT 1; bind a lo:1; tcp b; set b SO_REUSEADDR 1; bind b lo:1"),
    (
        "bind_reuse_all_then_port",
        "tcp a; set a SO_REUSEPORT 1; set a SO_REUSEADDR 1; bind a lo:1; tcp b; set b SO_REUSEADDR 1; bind b lo:1",
    ),
    ("bind_freed_by_close", "tcp a; bind a lo:1; close a; tcp b; bind b lo:1"),
    ("bind_to_device", "tcp a; set a SO_BINDTOIFINDEX 1; bind a lo:1; tcp b; bind b lo:1"),
    ("bind_no_port", "tcp a; set a IP_BIND_ADDRESS_NO_PORT 1; bind a lo:0; name a; bind a lo:1"),
    ("udp_bind_conflict", "udp a; bind a lo:1; udp b; bind b lo:1; bind b any:1; bind b lo2:1"),
    ("udp_bind_reuseaddr", "udp a; set a SO_REUSEADDR 1; bind a lo:1; udp b; set b SO_REUSEADDR 1; bind b lo:1"),
    ("udp_bind_reuseaddr_one", "udp a; set a SO_REUSEADDR 1; bind a lo:1; udp b; bind b lo:1"),
    ("udp_bind_reuseport", "udp a; set a SO_REUSEPORT 1; bind a lo:1; udp b; set b SO_REUSEPORT 1; bind b lo:1"),
    ("udp_bind_reuse_mixed", "udp a; set a SO_REUSEPORT 1; bind a lo:1; udp b; set b SO_REUSEADDR 1; bind b lo:1"),
    ("udp_tcp_ports_are_apart", "udp a; bind a lo:1; tcp b; bind b lo:1"),
    ("udp_bind_twice", "udp a; bind a lo:1; bind a lo:2; name a"),
    // listen(2), accept(2).
    ("listen_unbound", "tcp a; listen a 1; name a; peer a"),
    ("listen_bound", "tcp a; bind a lo:1; listen a 0; listen a -1; listen a 100000; name a"),
    ("listen_udp", "udp a; listen a 1; accept a b"),
    ("listen_send_recv", "tcp a; listen a 1; send a 1; recv a 1; err a"),
    ("listen_connect", "tcp a; bind a lo:1; listen a 1; connect a lo:2; connect a lo:1"),
    ("listen_bind", "tcp a; bind a lo:1; listen a 1; bind a lo:2"),
    (
        "listen_conflict",
        "tcp a; set a SO_REUSEADDR 1; bind a lo:1; tcp b; set b SO_REUSEADDR 1; bind b lo:1; listen b 1; listen a 1",
    ),
    ("listen_accept_nothing", "tcp a; listen a 1; accept a b; accept a b 1"),
    ("listen_shutdown_read", "tcp a; bind a lo:1; listen a 1; shut a r; accept a b; name a; listen a 1; name a"),
    ("listen_shutdown_write", "tcp a; bind a lo:1; listen a 1; shut a w; tcp b; connect b lo:1; accept a c"),
    ("listen_shutdown_both", "tcp a; bind a lo:1; listen a 1; shut a rw; tcp b; connect b lo:1; err b"),
    ("listen_disconnect", "tcp a; bind a lo:1; listen a 1; disc a; name a; accept a b; listen a 1"),
    ("listen_disconnect_unbound", "tcp a; listen a 1; name a; disc a; name a"),
    ("listen_ioctls", "tcp a; listen a 1; ioctl a INQ; ioctl a OUTQ; ioctl a OUTQNSD; ioctl a ATMARK"),
    (
        "listen_close_resets",
        "tcp l; bind l lo:1; listen l 5; tcp a; connect a lo:1; send a 3; close l; recv a 1; send a 1",
    ),
    ("accept_names", pair!("name a; peer a; name b; peer b; name l")),
    ("accept_names_v6", pair6!("name a; peer a; name b; peer b")),
    (
        "accept_mapped",
        "tcp6 l; bind l any6:1; listen l 5; tcp a; connect a lo:1; accept l b; name b; peer b; name a; peer a",
    ),
    ("accept_bad_flags", "tcp l; bind l lo:1; listen l 5; accept l b 1; accept l b 524288; accept l b 3"),
    (
        "accept_order",
        "tcp l; bind l lo:1; listen l 5; tcp a; bind a lo:2; connect a lo:1; tcp b; bind b lo:3; connect b lo:1; accept l c; accept l d; accept l e",
    ),
    (
        "accept_after_reset",
        "tcp l; bind l lo:1; listen l 5; tcp a; set a SO_LINGER 1 0; connect a lo:1; send a 4; close a; accept l b; recv b 10; recv b 10; peer b; err b",
    ),
    (
        "accept_after_fin",
        "tcp l; bind l lo:1; listen l 5; tcp a; connect a lo:1; send a 4; close a; accept l b; recv b 10; recv b 10; peer b",
    ),
    (
        "accept_inherits",
        "tcp l; set l TCP_NODELAY 1; set l SO_KEEPALIVE 1; bind l lo:1; listen l 5; tcp a; connect a lo:1; accept l b; get b TCP_NODELAY; get b SO_KEEPALIVE; get b SO_ACCEPTCONN; get l SO_ACCEPTCONN",
    ),
    ("accept_on_connected", pair!("accept a c; accept b c")),
    // connect(2).
    (
        "connect_nonblocking",
        "tcp l; bind l lo:1; listen l 5; tcp a; connect a lo:1; connect a lo:1; connect a lo:1; err a",
    ),
    ("connect_connected", pair!("connect a lo:1; connect a lo:2; connect b lo:1")),
    ("connect_accepted", pair!("connect b lo:2; bind b lo:3; listen b 1")),
    ("connect_refused", "tcp a; connect a lo:1; connect a lo:1; connect a lo:1; err a; name a"),
    ("connect_refused_so_error", "tcp a; connect a lo:1; err a; err a; connect a lo:1; err a"),
    (
        "connect_refused_then_again",
        "tcp a; connect a lo:1; err a; tcp l; bind l lo:1; listen l 1; connect a lo:1; connect a lo:1; connect a lo:1; connect a lo:1; accept l b; send a 3; recv b 9",
    ),
    ("connect_refused_send", "tcp a; connect a lo:1; send a 1; send a 1; err a"),
    ("connect_refused_recv", "tcp a; connect a lo:1; recv a 1; recv a 1; err a"),
    ("connect_refused_after_bind", "tcp a; bind a lo:2; connect a lo:1; err a; name a; peer a; connect a lo:1"),
    ("connect_refused_names", "tcp a; connect a lo:1; err a; name a; peer a"),
    ("connect_unreachable", "tcp a; connect a bad:1; err a; name a"),
    ("connect_unreachable6", "tcp6 a; connect a bad6:1; err a"),
    ("connect_multicast", "tcp a; connect a mcast:1; err a"),
    ("connect_broadcast", "tcp a; connect a bcast:1; err a"),
    ("connect_any", "tcp l; bind l lo:1; listen l 1; tcp a; connect a any:1; peer a; connect a any:1"),
    ("connect_any6", "tcp6 l; bind l lo6:1; listen l 1; tcp6 a; connect a any6:1; peer a"),
    ("connect_port_0", "tcp a; connect a lo:0; err a"),
    ("connect_v6_address_on_v4", "tcp a; connect a lo6:1; err a"),
    ("connect_v4_address_on_v6", "tcp6 a; connect a lo:1; err a"),
    ("connect_mapped_v6only", "tcp6 a; set a IPV6_V6ONLY 1; connect a map:1; err a"),
    ("connect_mapped", "tcp l; bind l lo:1; listen l 1; tcp6 a; connect a map:1; name a; peer a; accept l b; peer b"),
    ("connect_self", "tcp a; bind a lo:1; connect a lo:1; connect a lo:1; peer a; name a; send a 5; recv a 5"),
    (
        "connect_from_bound",
        "tcp l; bind l lo:1; listen l 5; tcp a; bind a lo:2; connect a lo:1; name a; accept l b; peer b",
    ),
    (
        "connect_same_tuple",
        "tcp l; bind l lo:1; listen l 5; tcp a; set a SO_REUSEADDR 1; bind a lo:2; tcp b; set b SO_REUSEADDR 1; bind b lo:2; connect a lo:1; connect b lo:1; err b",
    ),
    (
        "connect_backlog",
        "tcp l; bind l lo:1; listen l 0; tcp a; connect a lo:1; tcp b; connect b lo:1; accept l c; accept l d",
    ),
    ("connect_then_bind", "tcp l; bind l lo:1; listen l 5; tcp a; connect a lo:1; bind a lo:2; listen a 1"),
    ("connect_wildcard_bound", "tcp l; bind l lo:1; listen l 5; tcp a; bind a any:2; connect a lo:1; name a"),
    // AF_UNSPEC.
    ("disconnect_connected", pair!("disc a; name a; peer a; err a; recv b 1; send b 1; recv b 1")),
    (
        "disconnect_reconnect",
        pair!("disc a; err a; connect a lo:1; connect a lo:1; accept l c; send a 4; recv c 9; name c"),
    ),
    ("disconnect_bound", "tcp l; bind l lo:1; listen l 5; tcp a; bind a lo:2; connect a lo:1; disc a; name a; err a"),
    (
        "disconnect_wildcard",
        "tcp l; bind l lo:1; listen l 5; tcp a; bind a any:2; connect a lo:1; disc a; name a; err a",
    ),
    ("disconnect_listen", pair!("disc a; err a; listen a 1; name a")),
    ("disconnect_unread", pair!("send b 5; disc a; recv a 5; err a")),
    ("disconnect_closed_by_peer", pair!("close b; disc a; err a; name a")),
    ("disconnect_reset_by_peer", pair!("set b SO_LINGER 1 0; close b; disc a; err a; name a")),
    // Streams.
    ("stream_bytes", pair!("send a 10; recv b 4; recv b 100; recv b 1; send b 3; recv a 9")),
    ("stream_bytes_v6", pair6!("send a 10; recv b 4; recv b 100; recv b 1")),
    ("stream_zero", pair!("send a 0; recv b 0; recv b 1; send a 1; recv b 0; recv b 1")),
    ("stream_peek", pair!("send a 10; recv b 4 peek; recv b 4 peek; recv b 4; recv b 20 peek; recv b 20")),
    ("stream_trunc", pair!("send a 10; recv b 4 trunc; recv b 4; recv b 10 trunc; recv b 1")),
    ("stream_trunc_peek", pair!("send a 10; recv b 4 trunc peek; recv b 4 peek trunc; recv b 20")),
    ("stream_waitall", pair!("send a 10; recv b 4 waitall; recv b 20 waitall; recv b 20 waitall")),
    ("stream_waitall_eof", pair!("send a 10; shut a w; recv b 20 waitall; recv b 20 waitall")),
    ("stream_waitall_peek", pair!("send a 10; recv b 20 waitall peek; recv b 5 waitall")),
    ("stream_dontwait", pair!("recv b 4 dontwait; send a 3 dontwait; recv b 4 dontwait")),
    ("stream_sendto", pair!("send a 3 lo:2; recv b 9")),
    ("stream_eor", pair!("send a 3 eor; recv b 9")),
    ("stream_more", pair!("send a 3 more; send a 3; recv b 9")),
    ("stream_more_ioctl", pair!("send a 3 more; ioctl a OUTQ; ioctl a OUTQNSD; ioctl b INQ; send a 3; ioctl b INQ")),
    ("stream_more_shutdown", pair!("send a 3 more; shut a w; recv b 9; recv b 9")),
    ("stream_more_close", pair!("send a 3 more; close a; recv b 9; recv b 9")),
    ("stream_cork", pair!("set a TCP_CORK 1; send a 3; ioctl b INQ; set a TCP_CORK 0; ioctl b INQ; recv b 9")),
    ("stream_cork_nodelay", pair!("set a TCP_CORK 1; send a 3; set a TCP_NODELAY 1; ioctl b INQ")),
    (
        "stream_ioctls",
        pair!(
            "send a 10; ioctl b INQ; recv b 3; ioctl b INQ; ioctl a OUTQ; ioctl a OUTQNSD; ioctl b ATMARK; ioctl a BOGUS"
        ),
    ),
    ("stream_inq_fin", pair!("send a 10; close a; ioctl b INQ; recv b 10; ioctl b INQ; recv b 10; ioctl b INQ")),
    ("stream_lowat", pair!("set b SO_RCVLOWAT 5; send a 3; recv b 9 peek; send a 3; recv b 9; send a 1; recv b 9")),
    ("stream_lowat_later", pair!("send a 3; set b SO_RCVLOWAT 5; send a 1; set b SO_RCVLOWAT 1; recv b 9")),
    ("stream_lowat_fin", pair!("set b SO_RCVLOWAT 5; send a 3; shut a w; recv b 9; recv b 9")),
    (
        "stream_peek_off",
        pair!(
            "set b SO_PEEK_OFF 2; send a 10; recv b 3 peek; recv b 3 peek; get b SO_PEEK_OFF; recv b 2; get b SO_PEEK_OFF; recv b 3 peek; recv b 20; get b SO_PEEK_OFF"
        ),
    ),
    (
        "stream_peek_off_beyond",
        pair!("set b SO_PEEK_OFF 20; send a 10; recv b 3 peek; get b SO_PEEK_OFF; set b SO_PEEK_OFF -1; recv b 3 peek"),
    ),
    ("stream_errqueue", pair!("recv b 9 errq; send a 3; recv b 9 errq")),
    ("stream_inq_cmsg", pair!("set b TCP_INQ 1; send a 10; recv b 4; recv b 100; set b TCP_INQ 0; send a 3; recv b 2")),
    ("stream_inq_cmsg_fin", pair!("set b TCP_INQ 1; send a 10; shut a w; recv b 4; recv b 100; recv b 1")),
    ("stream_zerocopy", pair!("send a 3 zerocopy; recv a 9 errq; set a SO_ZEROCOPY 1; send a 3 zerocopy; recv b 9")),
    ("stream_inq_option", pair!("set b TCP_INQ 1; get b TCP_INQ; set b TCP_INQ 2")),
    // shutdown(2).
    ("shutdown_write", pair!("shut a w; send a 1; recv b 1; send b 3; recv a 9; recv a 9; shut a w")),
    ("shutdown_write_v6", pair6!("shut a w; send a 1; recv b 1; send b 3; recv a 9")),
    ("shutdown_read", pair!("shut a r; recv a 1; send b 3; recv a 9; send a 3; recv b 9")),
    ("shutdown_read_data", pair!("send b 5; shut a r; recv a 9; recv a 9")),
    ("shutdown_both", pair!("shut a rw; recv a 1; send a 1; recv b 1; send b 1; send b 1; err b; err a")),
    ("shutdown_again", pair!("shut a w; shut a w; shut a r; shut a rw")),
    ("shutdown_bad", pair!("shut a 3; shut a -1; shut a 2; shut a 0")),
    ("shutdown_each", pair!("shut a w; shut b w; recv a 1; recv b 1; shut a rw; shut b rw; peer a; peer b; name a")),
    ("shutdown_connecting", "tcp a; connect a lo:1; shut a w; err a"),
    ("shutdown_closed_by_peer", pair!("close b; recv a 1; shut a w; shut a w; send a 1; recv a 1")),
    ("shutdown_data_first", pair!("send a 5; shut a w; recv b 3; recv b 3; recv b 3")),
    // close(2), RST, EPIPE, ECONNRESET.
    ("close_peer_reads", pair!("send a 5; close a; recv b 3; recv b 3; recv b 3; peer b; name b")),
    ("close_peer_writes", pair!("close a; send b 1; send b 1; send b 1; err b; recv b 1")),
    ("close_peer_writes_reads", pair!("close a; send b 1; recv b 1; recv b 1; send b 1")),
    ("close_unread_resets", pair!("send b 5; close a; recv b 1; recv b 1; send b 1; err b")),
    ("close_unread_resets_send", pair!("send b 5; close a; send b 1; send b 1; recv b 1")),
    ("close_unread_shut", pair!("send b 5; shut a r; close a; recv b 1; recv b 1; send b 1; err b")),
    ("close_unread_shut_before", pair!("shut a r; send b 5; close a; recv b 1; recv b 1; send b 1; err b")),
    ("close_read_shut", pair!("shut a r; send b 5; recv a 9; close a; recv b 1; recv b 1; send b 1; err b")),
    ("close_unread_so_error", pair!("send b 5; close a; err b; err b; recv b 1; send b 1; peer b; name b")),
    ("close_linger_0", pair!("set a SO_LINGER 1 0; close a; recv b 1; recv b 1; send b 1; peer b")),
    ("close_linger_0_data", pair!("set a SO_LINGER 1 0; send a 5; close a; recv b 3; recv b 9; recv b 9")),
    ("close_both", pair!("close a; close b; tcp c; connect c lo:1; accept l d; send c 1; recv d 1")),
    ("close_reset_poll", pair!("set a SO_LINGER 1 0; close a; shut b w; shut b r; recv b 1; shut b rw")),
    (
        "close_reset_connect",
        pair!(
            "set a SO_LINGER 1 0; close a; connect b lo:1; err b; connect b lo:1; disc b; connect b lo:1; connect b lo:1"
        ),
    ),
    (
        "close_reset_ioctls",
        pair!("send a 5; set a SO_LINGER 1 0; close a; ioctl b INQ; ioctl b OUTQ; recv b 9; recv b 9"),
    ),
    ("close_listener", pair!("close l; send a 3; recv b 3; tcp c; connect c lo:1; err c")),
    ("close_listener_rebinds", pair!("close l; tcp m; bind m lo:1; set m SO_REUSEADDR 1; bind m lo:1")),
    ("close_time_wait_binds", pair!("close a; close b; close l; tcp m; bind m lo:1; listen m 1")),
    (
        "close_time_wait_server",
        pair!("close b; close a; close l; tcp m; bind m lo:1; set m SO_REUSEADDR 1; bind m lo:1; listen m 1"),
    ),
    ("close_half", pair!("shut b w; close a; send b 1; send b 1; recv b 1")),
    // MSG_FASTOPEN.
    (
        "fastopen_send",
        "tcp l; bind l lo:1; listen l 5; tcp a; send a 5 fastopen lo:1; accept l b; connect a lo:1; send a 5; recv b 9; peer a",
    ),
    ("fastopen_nowhere", "tcp a; send a 5 fastopen; send a 5 fastopen lo:2; connect a lo:2"),
    ("fastopen_connected", pair!("send a 5 fastopen lo:1; recv b 5")),
    // Urgent data.
    (
        "oob_out_of_line",
        pair!(
            "send a 3; send a 1 oob; ioctl b ATMARK; recv b 1 oob peek; recv b 1 oob; recv b 1 oob; recv b 10; ioctl b ATMARK; send a 2; recv b 10; \
             ioctl b ATMARK"
        ),
    ),
    (
        "oob_inline",
        pair!(
            "set b SO_OOBINLINE 1; send a 3; send a 1 oob; recv b 1 oob; recv b 10; ioctl b ATMARK; send a 2; recv b 10"
        ),
    ),
    ("oob_is_passed_over", pair!("send a 3 oob; recv b 10; send a 2; ioctl b INQ; recv b 10; recv b 1 oob")),
    (
        "oob_inq",
        pair!(
            "send a 5; send a 1 oob; send a 5; ioctl b INQ; recv b 3; ioctl b INQ; recv b 10; ioctl b INQ; ioctl b ATMARK; recv b 10; ioctl b INQ"
        ),
    ),
    ("oob_waitall", pair!("send a 3; send a 1 oob; send a 3; recv b 6 waitall; recv b 3 waitall")),
    (
        "oob_peek",
        pair!("send a 3; send a 1 oob; send a 3; recv b 10 peek; recv b 3; recv b 10 peek; ioctl b ATMARK; recv b 10"),
    ),
    ("oob_twice", pair!("send a 2 oob; recv b 1 oob; send a 2 oob; recv b 1 oob; recv b 10; recv b 10")),
    ("oob_no_room", pair!("send a 1 oob; recv b 0 oob; recv b 1 oob")),
    ("oob_trunc", pair!("send a 1 oob; recv b 1 oob trunc; recv b 1 oob")),
    ("oob_then_fin", pair!("send a 1 oob; shut a w; recv b 1 oob; recv b 1 oob; recv b 5")),
    ("oob_after_fin", pair!("close a; recv b 1 oob; recv b 5; recv b 1 oob")),
    ("oob_after_shutdown", pair!("shut a w; send a 1 oob; shut b r; recv b 1 oob")),
    ("oob_of_a_listener", "tcp l; bind l lo:1; listen l 5; recv l 1 oob; ioctl l ATMARK; send l 1 oob"),
    ("oob_lowat", pair!("set b SO_RCVLOWAT 2; send a 1 oob; send a 1; recv b 5; send a 1; recv b 5")),
    ("oob_inline_late", pair!("send a 2; send a 1 oob; set b SO_OOBINLINE 1; recv b 1 oob; recv b 10; recv b 10")),
    ("oob_more", pair!("send a 2 more oob; recv b 1 oob; recv b 10")),
    (
        "accepted_inherits",
        "tcp l; set l SO_OOBINLINE 1; set l SO_RCVLOWAT 3; bind l lo:1; listen l 5; tcp a; connect a lo:1; connect a lo:1; accept l b; \
         get b SO_OOBINLINE; send a 2; recv b 5; send a 1; recv b 5; send a 1 oob; recv b 1 oob; recv b 9",
    ),
    ("so_error_clears", pair!("set a SO_LINGER 1 0; close a; err b; err b; recv b 1; recv b 1")),
    (
        "options_after_reset",
        pair!(
            "set a SO_LINGER 1 0; close a; set b TCP_NODELAY 1; get b TCP_NODELAY; set b SO_KEEPALIVE 1; get b TCP_MAXSEG"
        ),
    ),
    // UDP.
    (
        "udp_fresh",
        "udp a; name a; peer a; err a; recv a 9; send a 3; shut a rw; ioctl a INQ; ioctl a OUTQ; ioctl a OUTQNSD; ioctl a ATMARK",
    ),
    ("udp_to", udp!("send a 5 @b; ioctl b INQ; recv b 9; recv b 9; name a")),
    ("udp_v6", "udp6 a; bind a lo6:1; udp6 b; bind b lo6:2; send a 5 @b; recv b 9; send b 3 @a; recv a 2"),
    ("udp_mapped", "udp6 a; bind a any6:1; udp b; bind b lo:2; send b 3 lo:1; recv a 9; send a 3 map:2; recv b 9"),
    ("udp_mapped_v6only", "udp6 a; set a IPV6_V6ONLY 1; bind a any6:1; udp b; send b 3 lo:1; recv a 9; send a 3 map:2"),
    ("udp_empty", udp!("send a 0 @b; ioctl b INQ; recv b 9; recv b 9")),
    ("udp_trunc", udp!("send a 10 @b; recv b 4; send a 10 @b; recv b 4 trunc; send a 3 @b; recv b 4 trunc")),
    ("udp_peek", udp!("send a 10 @b; recv b 4 peek; recv b 4 peek trunc; recv b 40; recv b 4 peek")),
    (
        "udp_peek_off",
        udp!(
            "set b SO_PEEK_OFF 2; send a 10 @b; recv b 3 peek; recv b 3 peek; get b SO_PEEK_OFF; recv b 20; get b SO_PEEK_OFF"
        ),
    ),
    (
        "udp_timestamps",
        udp!(
            "set b SO_TIMESTAMPNS 1; send a 5 @b; recv b 9; set b SO_TIMESTAMP 1; get b SO_TIMESTAMPNS; get b SO_TIMESTAMP; set b IP_RECVTTL 1; send a 5 @b; \
             recv b 9; set b SO_TIMESTAMP_NEW 1; get b SO_TIMESTAMP; send a 5 @b; recv b 9; set b SO_TIMESTAMPNS_NEW 1; send a 5 @b; recv b 9; \
             set b SO_TIMESTAMP 0; get b SO_TIMESTAMPNS_NEW; send a 5 @b; recv b 9"
        ),
    ),
    ("save_syn_bounds", "tcp l; get l TCP_SAVE_SYN; set l TCP_SAVE_SYN -1; set l TCP_SAVE_SYN 3; get l TCP_SAVED_SYN"),
    ("save_syn_off", pair!("get b TCP_SAVE_SYN; get b TCP_SAVED_SYN; get a TCP_SAVED_SYN; set b TCP_SAVED_SYN 1")),
    ("udp_zero_buffer", udp!("send a 10 @b; recv b 0; recv b 9")),
    ("udp_order", udp!("send a 1 @b; send a 2 @b; send a 3 @b; recv b 9; ioctl b INQ; recv b 9; recv b 9")),
    ("udp_autobind", "udp a; udp b; bind b lo:2; send a 3 @b; name a; recv b 9"),
    ("udp_connect", udp!("connect a lo:2; name a; peer a; send a 3; recv b 9; send b 3 @a; recv a 9")),
    (
        "udp_connect_unbound",
        "udp a; udp b; bind b lo:2; connect a lo:2; name a; peer a; connect a lo:2; disc a; name a; peer a",
    ),
    ("udp_connect_filters", udp!("connect a lo:3; send b 3 @a; recv a 9; udp c; bind c lo:3; send c 2 lo:1; recv a 9")),
    ("udp_connect_again", udp!("connect a lo:3; connect a lo:2; peer a; send a 2; recv b 9")),
    ("udp_disconnect", udp!("connect a lo:2; disc a; peer a; name a; send a 3; send a 3 @b; recv b 9")),
    ("udp_disconnect_wildcard", "udp a; bind a any:1; udp b; bind b lo:2; connect a lo:2; name a; disc a; name a"),
    ("udp_connected_sendto", udp!("connect a lo:3; send a 3 @b; recv b 9")),
    ("udp_connect_any", "udp a; connect a any:1; peer a; name a"),
    ("udp_connect_port_0", "udp a; connect a lo:0; peer a; send a 1; name a"),
    ("udp_send_port_0", "udp a; send a 1 lo:0"),
    ("udp_connect_broadcast", "udp a; connect a bcast:1; set a SO_BROADCAST 1; connect a bcast:1; err a"),
    ("udp_send_broadcast", "udp a; send a 1 bcast:1; err a"),
    ("udp_send_unreachable", "udp a; send a 1 bad:1; err a; connect a bad:1; err a"),
    ("udp_families", "udp a; send a 1 lo6:1; connect a lo6:1; udp6 b; send b 1 lo:1; connect b lo:1"),
    ("udp_too_long", "udp a; bind a lo:1; send a 65508 lo:1; send a 65507 lo:1; recv a 70000; send a 70000 lo:1"),
    ("udp_refused", "udp a; connect a lo:2; send a 1; recv a 1; send a 1; send a 1; err a"),
    ("udp_refused_so_error", "udp a; connect a lo:2; send a 1; err a; err a; recv a 1"),
    ("udp_refused_unconnected", "udp a; bind a lo:1; send a 1 lo:2; recv a 1; err a; send a 1 lo:2"),
    ("udp_refused_recverr", "udp a; set a IP_RECVERR 1; bind a lo:1; send a 1 lo:2; recv a 9; recv a 9 errq"),
    ("udp_refused_poll_data", udp!("connect a lo:2; send b 2 @a; close b; send a 1; recv a 9; recv a 9; recv a 9")),
    ("udp_shutdown", udp!("connect a lo:2; shut a w; send a 1; shut a r; recv a 1; send b 3 @a; recv a 9; shut a rw")),
    ("udp_shutdown_unconnected", udp!("shut a w; shut a r; send a 1 @b")),
    ("udp_shutdown_both", udp!("connect a lo:2; shut a rw; recv a 1; send a 1")),
    ("udp_shutdown_data", udp!("connect a lo:2; send b 3 @a; shut a r; recv a 9; recv a 9")),
    ("udp_oob", udp!("send a 1 oob @b; recv b 1 oob")),
    ("udp_errqueue", udp!("recv b 1 errq; send a 1 @b; recv b 1 errq; recv b 1")),
    ("udp_waitall", udp!("send a 1 @b; recv b 9 waitall; recv b 9 waitall dontwait")),
    ("udp_more", udp!("send a 2 more @b; recv b 9; send a 3 @b; recv b 9; recv b 9")),
    ("udp_cork", udp!("set a UDP_CORK 1; send a 2 @b; send a 3 @b; recv b 9; set a UDP_CORK 0; recv b 9")),
    ("udp_reuseport_delivers", "udp a; set a SO_REUSEPORT 1; bind a lo:1; udp c; bind c lo:2; send c 3 lo:1; recv a 9"),
    (
        "udp_reuseaddr_last_wins",
        "udp a; set a SO_REUSEADDR 1; bind a lo:1; udp b; set b SO_REUSEADDR 1; bind b lo:1; udp c; bind c lo:2; send c 3 lo:1; recv b 9; recv a 9",
    ),
    (
        "udp_specific_wins",
        "udp a; set a SO_REUSEADDR 1; bind a any:1; udp b; set b SO_REUSEADDR 1; bind b lo:1; udp c; bind c lo:2; send c 3 lo:1; recv b 9; recv a 9",
    ),
    (
        "udp_connected_wins",
        "udp a; set a SO_REUSEADDR 1; bind a lo:1; udp b; set b SO_REUSEADDR 1; bind b lo:1; udp c; bind c lo:2; connect a lo:2; send c 3 lo:1; recv a 9; recv b 9",
    ),
    ("udp_self", "udp a; bind a lo:1; connect a lo:1; send a 4; recv a 9"),
    ("udp_close_queue", udp!("send a 3 @b; close b; udp c; bind c lo:2; recv c 3")),
    // A socket of IPv6 that speaks IPv4.
    (
        "dual_bind_mapped_any",
        "tcp6 a; bind a mapany:1; name a; listen a 5; tcp b; connect b lo:1; accept a c; name c; peer c; tcp6 d; connect d lo6:1; err d",
    ),
    (
        "dual_bind_mapped_conflicts",
        "tcp6 a; bind a map:1; get a IPV6_V6ONLY; tcp b; bind b lo:1; bind b any:1; bind b lo2:1; tcp6 c; bind c any6:1; bind c map:1; bind c mapany:1; bind c lo6:1",
    ),
    (
        "dual_bind_mapped_any_conflicts",
        "tcp6 a; bind a mapany:1; tcp b; bind b lo:1; tcp6 c; bind c any6:1; bind c map2:1; bind c lo6:1; tcp6 d; set d IPV6_V6ONLY 1; bind d any6:1",
    ),
    (
        "dual_bind_mapped_not_ours",
        "tcp6 a; bind a mapbad:1; bind a mapmcast:1; bind a mapbcast:1; udp6 b; bind b mapmcast:1; name b",
    ),
    (
        "dual_bind_lo6",
        "tcp6 a; bind a lo6:1; get a IPV6_V6ONLY; tcp b; bind b any:1; tcp6 c; bind c mapany:1; bind c any6:1",
    ),
    ("dual_bind_multicast", "tcp6 a; bind a mcast6:1; udp6 b; bind b mcast6:1; name b"),
    (
        "dual_bind_wildcards",
        "tcp a; bind a any:1; tcp6 b; set b IPV6_V6ONLY 1; bind b any6:1; tcp6 c; bind c any6:1; bind c lo6:1",
    ),
    (
        "dual_bind_after_v6only",
        "tcp6 a; set a IPV6_V6ONLY 1; bind a any6:1; tcp6 b; bind b any6:1; bind b mapany:1; tcp c; bind c lo:1",
    ),
    (
        "dual_bind_reuseaddr",
        "tcp6 a; set a SO_REUSEADDR 1; bind a any6:1; tcp b; set b SO_REUSEADDR 1; bind b any:1; listen a 1; listen b 1; tcp c; set c SO_REUSEADDR 1; bind c lo:1",
    ),
    (
        "dual_bind_reuseaddr_listener_v4",
        "tcp a; set a SO_REUSEADDR 1; bind a lo:1; listen a 1; tcp6 b; set b SO_REUSEADDR 1; bind b any6:1; set b IPV6_V6ONLY 1; bind b any6:1; listen b 1",
    ),
    (
        "dual_bind_reuseport",
        "tcp6 a; set a SO_REUSEPORT 1; bind a any6:1; listen a 5; tcp b; set b SO_REUSEPORT 1; bind b any:1; listen b 5; tcp c; connect c lo:1; accept a d; accept b d; \
         tcp6 e; connect e lo6:1; accept b f; accept a f; tcp6 g; connect g map:1; accept a h; accept b h; peer h; peer g",
    ),
    (
        "dual_bind_reuseport_mapped",
        "tcp6 a; set a SO_REUSEPORT 1; bind a any6:1; listen a 5; tcp6 b; set b SO_REUSEPORT 1; bind b map:1; listen b 5; tcp c; connect c lo:1; accept a d; accept b d; name d; \
         tcp e; bind e lo:1",
    ),
    (
        "dual_v6only_late",
        "tcp6 a; bind a any6:1; set a IPV6_V6ONLY 1; set a IPV6_V6ONLY 0; listen a 1; set a IPV6_V6ONLY 1; get a IPV6_V6ONLY; tcp b; set b IPV6_V6ONLY 1",
    ),
    (
        "dual_v6only_late_lo6",
        "tcp6 a; bind a lo6:1; set a IPV6_V6ONLY 0; get a IPV6_V6ONLY; tcp6 b; connect b lo6:2; set b IPV6_V6ONLY 1; get b IPV6_V6ONLY",
    ),
    ("dual_v6only_connected", pair6!("get a IPV6_V6ONLY; get b IPV6_V6ONLY; get l IPV6_V6ONLY; set a IPV6_V6ONLY 1")),
    (
        "dual_v6only_disconnected",
        pair6!("disc a; get a IPV6_V6ONLY; set a IPV6_V6ONLY 1; err a; connect a map:2; err a"),
    ),
    (
        "dual_connect_from_lo6",
        "tcp l; bind l lo:1; listen l 1; tcp6 a; bind a lo6:2; connect a map:1; err a; name a; udp6 b; bind b lo6:3; connect b map:1; send b 1 map:1",
    ),
    (
        "dual_connect_from_mapped",
        "tcp6 a; bind a map:2; connect a lo6:1; err a; name a; udp6 b; bind b map:3; connect b lo6:1; send b 1 lo6:1; name b; peer b",
    ),
    (
        "dual_connect_from_mapped_any",
        "tcp6 a; bind a mapany:2; name a; connect a lo6:1; err a; name a; udp6 b; bind b mapany:3; name b; connect b lo6:1; name b; peer b",
    ),
    (
        "dual_connect_mapped_any",
        "tcp l; bind l lo:1; listen l 5; tcp6 a; connect a mapany:1; name a; peer a; tcp6 b; bind b map:2; connect b any6:1; name b; peer b; err b",
    ),
    ("dual_connect_mapped_refused", "tcp6 a; connect a map:1; err a; name a; peer a"),
    (
        "dual_connect_mapped_foreign",
        "tcp6 a; connect a mapbad:1; err a; connect a mapmcast:1; connect a mapbcast:1; err a; name a",
    ),
    (
        "dual_connect_mapped_twice",
        "tcp l; bind l lo:1; listen l 5; tcp6 a; connect a map:1; connect a map:1; connect a map:1; connect a lo6:1",
    ),
    ("dual_connect_self", "tcp6 a; bind a map:1; connect a map:1; connect a map:1; peer a; name a; send a 5; recv a 5"),
    (
        "dual_accepts_both",
        "tcp6 l; bind l any6:1; listen l 5; tcp a; connect a lo:1; accept l b; name b; peer b; get b IPV6_V6ONLY; get b SO_DOMAIN; tcp6 c; connect c lo6:1; accept l d; name d; peer d; \
         tcp6 e; connect e map:1; accept l f; name f; peer f; name e; peer e; send e 3; recv f 9; close f; recv e 1",
    ),
    (
        "dual_v6only_refuses",
        "tcp6 l; set l IPV6_V6ONLY 1; bind l any6:1; listen l 5; tcp a; connect a lo:1; err a; tcp6 b; connect b map:1; err b; tcp6 c; connect c lo6:1; accept l d; peer d",
    ),
    (
        "dual_options_tcp",
        "tcp6 l; set l IP_TOS 16; set l IP_TTL 9; set l IPV6_TCLASS 32; set l IPV6_UNICAST_HOPS 8; bind l any6:1; listen l 5; tcp a; connect a lo:1; accept l b; get b IP_TOS; get b IP_TTL; \
         get b IPV6_TCLASS; get b IPV6_UNICAST_HOPS; set b IP_TOS 40; get b IP_TOS; get b IPV6_TCLASS",
    ),
    (
        "dual_options_udp_receive",
        "udp6 a; bind a any6:1; set a IP_RECVTOS 1; set a IP_RECVTTL 1; udp b; bind b lo:2; set b IP_TOS 16; set b IP_TTL 7; send b 3 lo:1; recv a 9; set a IP_PKTINFO 1; send b 3 lo:1; recv a 9; \
         set a IPV6_RECVPKTINFO 1; set a IPV6_RECVTCLASS 1; set a IPV6_RECVHOPLIMIT 1; send b 3 lo:1; recv a 9; udp6 c; bind c lo6:3; set c IPV6_TCLASS 32; set c IPV6_UNICAST_HOPS 6; send c 3 lo6:1; \
         recv a 9; set a IPV6_RECVPKTINFO 0; send b 3 lo:1; recv a 9; set a IP_RECVORIGDSTADDR 1; set a IPV6_RECVORIGDSTADDR 1; send b 3 lo:1; recv a 9; send c 3 lo6:1; recv a 9",
    ),
    (
        "dual_options_udp_send",
        "udp a; bind a lo:1; set a IP_RECVTOS 1; set a IP_RECVTTL 1; set a IP_PKTINFO 1; udp6 b; bind b any6:2; set b IP_TOS 16; set b IP_TTL 7; set b IPV6_TCLASS 32; set b IPV6_UNICAST_HOPS 6; \
         send b 3 map:1; recv a 9; connect b map:1; send b 3; recv a 9; get b IP_MTU; get b IPV6_MTU; name b; peer b",
    ),
    (
        "dual_options_udp_send_from",
        "udp a; bind a any:1; set a IP_PKTINFO 1; udp6 b; bind b any6:2; send b 3 map:1 from=lo2; recv a 9; send b 3 map:1 from=map2; recv a 9; send b 3 map:1 from=lo6; recv a 9;  \
         send b 3 lo6:1 from=map2",
    ),
    (
        "dual_udp_connect",
        "udp b; bind b lo:2; udp6 a; connect a map:2; name a; peer a; send a 3; recv b 9; send b 4 @a; disc a; name a; peer a",
    ),
    (
        "dual_udp_connect_bound",
        "udp6 a; bind a any6:1; connect a map:2; name a; peer a; disc a; name a; connect a lo6:2; name a; disc a; name a",
    ),
    (
        "dual_udp_connect_other",
        "udp6 a; connect a map:2; connect a lo6:2; name a; peer a; udp6 b; connect b lo6:2; connect b map:2; name b; peer b",
    ),
    (
        "dual_udp_connected_sends",
        "udp6 b; bind b lo6:2; udp c; bind c lo:2; udp6 a; connect a map:2; send a 3 lo6:2; recv b 9; send a 3 map:2; recv c 9; udp6 d; connect d lo6:2; send d 3 map:2; recv c 9",
    ),
    (
        "dual_udp_any",
        "udp6 b; bind b any6:2; udp6 a; send a 3 any6:2; recv b 9; send a 3 mapany:2; recv b 9; connect a mapany:2; peer a; name a; send a 1; recv b 9; udp6 c; connect c any6:2; peer c",
    ),
    (
        "dual_udp_reply",
        "udp6 a; bind a any6:1; udp b; bind b lo:2; send b 3 lo2:1; recv a 9; send a 3 @b; recv b 9; send a 3 map:2; recv b 9",
    ),
    (
        "dual_udp_v6only",
        "udp6 a; set a IPV6_V6ONLY 1; bind a any6:1; udp b; bind b any:1; udp c; bind c lo:2; send c 3 lo:1; recv b 9; recv a 9; udp6 d; bind d lo6:2; send d 3 lo6:1; recv a 9; connect a map:2",
    ),
    (
        "dual_udp_conflicts",
        "udp6 a; bind a any6:1; udp b; bind b any:1; bind b lo:1; udp6 c; bind c lo6:1; bind c map:1; udp6 d; set d IPV6_V6ONLY 1; bind d any6:1",
    ),
    (
        "dual_udp_reuseaddr",
        "udp6 a; set a SO_REUSEADDR 1; bind a any6:1; udp b; set b SO_REUSEADDR 1; bind b any:1; udp c; bind c lo:2; send c 3 lo:1; recv a 9; recv b 9; udp6 d; set d SO_REUSEADDR 1; bind d any6:1; \
         send c 3 lo:1; recv d 9; recv b 9; udp6 e; bind e lo6:2; send e 3 lo6:1; recv a 9; recv d 9",
    ),
    (
        "dual_udp_reuseaddr_v6_later",
        "udp b; set b SO_REUSEADDR 1; bind b any:1; udp6 a; set a SO_REUSEADDR 1; bind a any6:1; udp c; bind c lo:2; send c 3 lo:1; recv a 9; recv b 9",
    ),
    ("dual_udp_refused", "udp6 a; connect a map:2; send a 1; err a; recv a 1"),
    // Addresses that are not ours.
    (
        "foreign_transparent",
        "tcp a; set a IP_TRANSPARENT 1; get a IP_TRANSPARENT; get a IP_FREEBIND; bind a bad:1; name a; listen a 1; udp b; set b IP_TRANSPARENT 1; bind b bad:1; name b",
    ),
    (
        "foreign_bind6",
        "tcp6 a; bind a bad6:1; name a; set a IPV6_FREEBIND 1; get a IP_FREEBIND; bind a bad6:1; name a; listen a 1; udp6 b; bind b bad6:1; set b IPV6_TRANSPARENT 1; get b IP_TRANSPARENT; bind b bad6:1; name b",
    ),
    (
        "foreign_bind6_by_v4_option",
        "tcp6 a; set a IP_FREEBIND 1; get a IPV6_FREEBIND; bind a bad6:1; name a; tcp6 b; set b IP_TRANSPARENT 1; get b IPV6_TRANSPARENT; bind b bad6:2; name b",
    ),
    (
        "foreign_bind_mapped",
        "tcp6 a; set a IPV6_FREEBIND 1; bind a mapbad:1; name a; tcp6 b; set b IPV6_TRANSPARENT 1; bind b mapbad:2; name b; udp6 c; bind c mapbad:3; set c IP_FREEBIND 1; bind c mapbad:3",
    ),
    (
        "foreign_bind_groups",
        "tcp a; set a IP_FREEBIND 1; bind a mcast:1; name a; tcp b; set b IP_FREEBIND 1; bind b bcast:1; name b; tcp6 c; set c IPV6_FREEBIND 1; bind c mcast6:1; tcp6 d; set d IPV6_FREEBIND 1; bind d mapmcast:2; name d",
    ),
    (
        "foreign_freebind_late",
        "tcp a; bind a bad:1; set a IP_FREEBIND 1; bind a bad:1; set a IP_FREEBIND 0; get a IP_FREEBIND; name a; listen a 1",
    ),
    (
        "foreign_connect_freebound",
        "tcp a; set a IP_FREEBIND 1; bind a bad:2; connect a lo:1; err a; name a; connect a lo:1",
    ),
    ("foreign_connect_freebound6", "tcp6 a; set a IPV6_FREEBIND 1; bind a bad6:2; connect a lo6:1; err a; name a"),
    (
        "foreign_connect_freebound_mapped",
        "tcp6 a; set a IPV6_FREEBIND 1; bind a mapbad:2; connect a map:1; err a; name a",
    ),
    (
        "foreign_connect_transparent",
        "tcp a; set a IP_TRANSPARENT 1; bind a bad:2; connect a lo:1; err a; name a; connect a lo:1",
    ),
    (
        "foreign_connect_once_transparent",
        "tcp a; set a IP_TRANSPARENT 1; bind a bad:2; set a IP_TRANSPARENT 0; connect a lo:1; err a; name a",
    ),
    (
        "foreign_udp_freebound",
        "udp a; set a IP_FREEBIND 1; bind a bad:2; send a 1 lo:1; connect a lo:1; err a; name a; set a IP_TRANSPARENT 1; connect a lo:1; name a",
    ),
    (
        "foreign_udp_freebound6",
        "udp6 a; set a IPV6_FREEBIND 1; bind a bad6:2; send a 1 lo6:1; connect a lo6:1; err a; name a",
    ),
    (
        "foreign_udp_transparent",
        "udp a; set a IP_TRANSPARENT 1; bind a bad:2; udp b; bind b lo:1; send a 1 lo:1; connect a lo:1; err a; name a; peer a",
    ),
    (
        "foreign_udp_from",
        "udp a; send a 1 lo:1 from=bad; set a IP_FREEBIND 1; send a 1 lo:1 from=bad; udp b; bind b lo:1; send a 1 lo:1 from=lo2; recv b 9; set a IP_TRANSPARENT 1; send a 1 lo:1 from=bad",
    ),
    (
        "foreign_udp_from6",
        "udp6 a; send a 1 lo6:1 from=bad6; set a IPV6_FREEBIND 1; send a 1 lo6:1 from=bad6; set a IPV6_FREEBIND 0; set a IPV6_TRANSPARENT 1; send a 1 lo6:1 from=bad6; send a 1 lo6:1 from=mcast6",
    ),
    // Sockets that keep to one interface.
    (
        "device_option",
        "tcp a; dev a t0; get a SO_BINDTODEVICE; dev a lo; get a SO_BINDTODEVICE; dev a nowhere; get a SO_BINDTODEVICE; dev a a-name-of-far-too-many-bytes; dev a -; get a SO_BINDTODEVICE; get a SO_BINDTOIFINDEX",
    ),
    (
        "device_listener",
        "tcp l; dev l t0; bind l any:1; listen l 5; tcp a; connect a lo:1; err a; tcp b; connect b dev:1; err b; name b; accept l c; name c; get c SO_BINDTODEVICE; dev l -; tcp d; connect d lo:1; err d; accept l e; get e SO_BINDTODEVICE",
    ),
    (
        "device_listener6",
        "tcp6 l; dev l t0; bind l any6:1; listen l 5; tcp6 a; connect a lo6:1; err a; tcp6 b; connect b dev6:1; err b; accept l c; name c; get c SO_BINDTODEVICE; tcp d; connect d lo:1; err d; tcp e; connect e dev:1; err e",
    ),
    (
        "device_listener_lo",
        "tcp l; dev l lo; bind l any:1; listen l 5; tcp a; connect a lo:1; err a; accept l b; get b SO_BINDTODEVICE; send a 3; recv b 9; dev l -; get b SO_BINDTODEVICE; tcp c; connect c dev:1; err c; dev l lo; tcp d; connect d dev:1; err d",
    ),
    (
        "device_listeners",
        "tcp l; dev l t0; bind l any:1; listen l 5; tcp m; dev m lo; bind m any:1; listen m 5; tcp n; bind n any:1; dev n lo; bind n any:1; tcp a; connect a lo:1; accept m b; accept l c; tcp d; connect d dev:1; accept l e",
    ),
    (
        "device_listener_best",
        "tcp l; set l SO_REUSEPORT 1; bind l any:1; listen l 5; tcp m; set m SO_REUSEPORT 1; bind m any:1; dev m lo; listen m 5; tcp a; connect a lo:1; accept l b; accept m b; tcp c; connect c dev:1; accept m d; accept l d",
    ),
    (
        "device_connect",
        "tcp l; bind l any:1; listen l 5; tcp a; dev a lo; connect a lo:1; err a; accept l b; get b SO_BINDTODEVICE; tcp c; dev c t0; connect c dev:1; err c; accept l d; name d; peer d; name c; get d SO_BINDTODEVICE",
    ),
    (
        "device_bind_address",
        "tcp a; dev a t0; bind a lo:1; name a; tcp b; dev b lo; bind b dev:2; name b; tcp6 c; dev c t0; bind c lo6:3; tcp6 d; dev d lo; bind d dev6:4; tcp6 e; dev e t0; bind e dev6:5; name e; udp6 f; dev f t0; bind f lo6:6",
    ),
    (
        "device_changes_meet",
        "tcp a; dev a t0; bind a lo:1; tcp b; dev b lo; bind b lo:1; dev b -; get b SO_BINDTODEVICE; listen a 1; listen b 1; tcp c; bind c lo:1",
    ),
    (
        "reuse_changes_meet",
        "tcp a; set a SO_REUSEADDR 1; bind a lo:1; tcp b; set b SO_REUSEADDR 1; bind b lo:1; set a SO_REUSEADDR 0; get a SO_REUSEADDR; listen a 1; listen b 1; set b SO_REUSEADDR 0; tcp c; set c SO_REUSEADDR 1; bind c lo:1",
    ),
    (
        "reuseport_changes_meet",
        "tcp a; set a SO_REUSEPORT 1; bind a lo:1; tcp b; set b SO_REUSEPORT 1; bind b lo:1; set a SO_REUSEPORT 0; get a SO_REUSEPORT; listen a 1; listen b 1",
    ),
    (
        "device_connected",
        pair!("dev a lo; send a 3; recv b 9; dev b lo; send b 3; recv a 9; dev a -; send a 2; recv b 9"),
    ),
    (
        "device_udp",
        "udp a; dev a t0; bind a any:1; set a IP_PKTINFO 1; udp b; bind b any:2; send b 3 lo:1; recv a 9; send b 3 dev:1; recv a 9; dev a -; send b 3 lo:1; recv a 9; dev a lo; send b 3 dev:1; recv a 9; send b 3 lo:1; recv a 9",
    ),
    (
        "device_udp6",
        "udp6 a; dev a t0; bind a any6:1; set a IPV6_RECVPKTINFO 1; udp6 b; bind b any6:2; send b 3 lo6:1; recv a 9; send b 3 dev6:1; recv a 9; send b 3 map:1; recv a 9; dev a -; send b 3 lo6:1; recv a 9; send b 3 map:1; recv a 9",
    ),
    (
        "device_udp_best",
        "udp a; set a SO_REUSEADDR 1; dev a lo; bind a any:1; udp b; set b SO_REUSEADDR 1; bind b any:1; udp c; bind c lo:2; send c 3 lo:1; recv b 9; recv a 9; send c 3 dev:1; recv a 9; recv b 9",
    ),
    (
        "device_udp_connected",
        "udp a; bind a lo:1; udp b; bind b lo:2; connect a lo:2; dev a t0; send b 3 lo:1; recv a 9; dev a lo; send b 3 lo:1; recv a 9; send a 2; recv b 9",
    ),
    (
        "device_udp_conflicts",
        "udp a; dev a t0; bind a any:1; udp b; dev b lo; bind b any:1; udp c; bind c any:1; dev b -; get b SO_BINDTODEVICE",
    ),
];
