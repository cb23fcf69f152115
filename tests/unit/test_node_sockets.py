"""Who began the TCP connections that the node has: read from the text of /proc/net/tcp and tcp6."""

from ipaddress import ip_address

import pytest

from enitide_enidp.datapath.nodesockets import NodeConnection, connections_in

pytestmark = pytest.mark.unit
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"


def line(local, remote, state):
    return f"   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 1 1 0\n"


FOUR = (
    HEAD
    + line("00000000:0016", "00000000:0000", "0A")  # listens on 22
    + line("0A00000A:0016", "0109000A:9C40", "01")  # 10.0.0.10:22 <- 10.0.9.1:40000
    + line("0A00000A:C350", "0109000A:01BB", "01")  # 10.0.0.10:50000 -> 10.0.9.1:443
    + line("0A00000A:C351", "0109000A:01BB", "02")  # SYN sent
    + line("0100007F:C352", "0100007F:0016", "01")  # inside the node
    + line("0A00000A:C353", "0A00000A:0016", "01")  # to its own address
)
SIX = (
    HEAD
    + line("00000000000000000000000000000000:1F90", "00000000000000000000000000000000:0000", "0A")  # 8080
    + line("0000000000000000FFFF00000A00000A:1F90", "0000000000000000FFFF00000109000A:9C41", "01")  # IPv4 in it
    + line("B80D0120000000000000000001000000:C354", "B80D0120000000000000000002000000:0050", "01")
)


def test_the_end_that_does_not_listen_on_its_port_began():
    own, other = ip_address("10.0.0.10"), ip_address("10.0.9.1")
    assert connections_in([FOUR, SIX]) == [
        NodeConnection(other, 40000, own, 22),
        NodeConnection(own, 50000, other, 443),
        NodeConnection(other, 40001, own, 8080),
        NodeConnection(ip_address("2001:db8::1"), 50004, ip_address("2001:db8::2"), 80),
    ]
