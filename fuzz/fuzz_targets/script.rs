//! The packetdrill language: any text is a script or an error that names a line; and so is any sequence of the language's own words.
#![no_main]

mod reader;
mod words;

use libfuzzer_sys::fuzz_target;
use stackd_packetdrill::{Config, Defines, run_text};

const WORDS: &[&str] = &[
    "0",
    "+0",
    "+.1",
    "*",
    "0.1~0.2",
    "+0 `sysctl -q net.ipv4.tcp_timestamps=0`",
    "`true`",
    "\n",
    "\n",
    "\n",
    "//",
    "/*",
    "*/",
    "#",
    "socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
    "setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0",
    "bind(3, ..., ...) = 0",
    "listen(3, 1) = 0",
    "accept(3, ..., ...) = 4",
    "write(4, ..., 1000) = 1000",
    "read(4, ..., 1000)",
    "close(4) = 0",
    "-1 EAGAIN (text)",
    "poll([{fd=3, events=POLLIN, revents=0}], 1, 0) = 0",
    "sendmsg(4, {msg_name(...)=...,",
    "msg_iov(1)=[{..., 10}]",
    "msg_flags=0}, 0) = 10",
    "epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN, fd=4}) = 0",
    "<",
    ">",
    "S 0:0(0) win 32792 <mss 1460,sackOK,nop,nop,nop,wscale 7>",
    "S. 0:0(0) ack 1 <...>",
    ". 1:1001(1000) ack 1",
    "P.",
    "F.",
    "R",
    "win 257",
    "ack 1",
    "<",
    ">",
    "<sack 1001:2001 3001:4001,nop,nop>",
    "<TS val 100 ecr 0>",
    "<FO 0123456789abcdef>",
    "<FOEXP>",
    "<ACCECN e1b 1 ceb 2 e0b 3>",
    "[ect0]",
    "[ce]",
    "(flowlabel 0x1)",
    "icmp unreachable frag_needed mtu 1000 [1:1461(1460)]",
    "udp (10)",
    "ip6",
    "ipv4",
    "%{ assert tcpi_snd_cwnd == 10, tcpi_snd_cwnd }%",
    "%{",
    "}%",
    "assert",
    "print(tcpi_rtt)",
    "--mss=1000",
    "--tolerance_usecs=10000",
    "...",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "=",
    "|",
    ",",
    "\"text\"",
    "3",
    "4096",
    "0x10",
    "MSG_DONTWAIT",
    "O_RDWR|O_NONBLOCK",
    "sport",
    "urg 5",
    "4294967295",
    "-1",
    ":",
    "eol",
    "md5 0123",
    "ttl 3",
    "mpls (label 1, tc 0, ttl 1) [S]",
];

fuzz_target!(|data: &[u8]| {
    let config = Config { dry_run: true, ..Config::default() };
    let text = words::text(data, WORDS);
    let lines = text.lines().count();
    if let Err(e) = run_text("f.pkt", &text, &config, &Defines::new()) {
        let said = e.to_string();
        assert!(said.contains("f.pkt"), "an error without its file: {said}");
        assert!(lines < 10_000);
    }
});
