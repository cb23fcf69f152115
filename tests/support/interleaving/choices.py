"""What Hypothesis may choose from: nodes, moments, faults, and with what an interleaving begins."""

from __future__ import annotations

from hypothesis import strategies as st

from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.ec2model import Effect, Fault
from support.interleaving.compound import Again, Lag
from support.interleaving.ground import NODES, Setup

nodes = st.sampled_from(NODES)
kinds = st.sampled_from(("ENINode", "Pod"))
clients = st.sampled_from(("operator", "standby", "agent-a", "agent-b"))
# none at all, within one call, within a few calls, over a release delay or a cool-down, over a call time-out
whiles = st.sampled_from((0.0, 0.004, 0.1, 0.3, 1.0, 2.5, 6.0, 16.0))
sides = st.sampled_from(("before", "after"))  # of a call
records = st.sampled_from(("", "before", "torn", "after"))  # where an agent dies: between records, or at one
steps = st.sampled_from(("yielded", "reclaimed"))
tight = steps | st.sampled_from(("PATCH before", "moved", "UnassignPrivateIpAddresses before"))
moments = steps | st.sampled_from(
    (
        "moved",
        "withdrawn",
        "PATCH before",
        "PATCH after",
        "AssignPrivateIpAddresses before",
        "AssignPrivateIpAddresses after",
        "UnassignPrivateIpAddresses before",
        "UnassignPrivateIpAddresses after",
        "CreateNetworkInterface after",
        "AttachNetworkInterface after",
        "DetachNetworkInterface after",
    )
)
verbs = st.sampled_from(
    (
        "AssignPrivateIpAddresses",
        "UnassignPrivateIpAddresses",
        "CreateNetworkInterface",
        "AttachNetworkInterface",
        "DescribeNetworkInterfaces",
        "mutations",
        "mutations",
        "*",
        "*",
    )
)
ec2_faults = st.one_of(
    st.builds(lambda verb, n: Fault(verb, effect=Effect.LOST, times=n), verbs, st.integers(1, 2)),
    st.builds(
        lambda verb, s: Fault(verb, effect=Effect.DELAY, delay_s=s, times=2), verbs, st.sampled_from((3, 14, 25))
    ),
    st.builds(
        lambda verb, code: Fault(verb, code=code, times=2),
        verbs,
        st.sampled_from(
            ("InsufficientFreeAddressesInSubnet", "PrivateIpAddressLimitExceeded", "UnauthorizedOperation")
        ),
    ),
    st.builds(lambda verb: Fault(verb, code="RequestLimitExceeded", http_status=503, times=2), verbs),
    st.builds(lambda verb: Fault(verb, effect=Effect.REFUSE_AFTER, http_status=500, times=2), verbs),
    st.builds(lambda verb: Fault(verb, effect=Effect.REFUSE, http_status=500, times=2), verbs),
    st.builds(lambda: Fault("DescribeNetworkInterfaces", effect=Effect.EMPTY, times=1)),
)
writers = st.sampled_from(("op", "agent"))
kube_faults = st.one_of(
    st.builds(
        lambda client, code, lost, times: KubeFault(kind="ENINode", code=code, lost=lost, times=times, client=client),
        writers,
        st.sampled_from((409, 503, 504)),
        st.booleans(),
        st.integers(1, 2),
    ),
    # a request that is on its way for longer than its sender lives or leads
    st.builds(
        lambda client, delay_s: KubeFault(kind="ENINode", delay_s=delay_s, client=client),
        writers,
        st.sampled_from((0.5, 5.0, 60.0)),
    ),
)
lags = st.builds(
    Lag,
    node=nodes,
    is_crowded=st.booleans(),
    moment=st.sampled_from(("moved", "UnassignPrivateIpAddresses before")),
    sees_s=st.sampled_from((0.0, 0.05, 0.3)),
    late_s=st.sampled_from((20.0, 60.0)),
    burst=st.integers(1, 3),
    pause_s=st.sampled_from((1.0, 2.5)),
)
agains = st.builds(
    Again,
    go=st.integers(0, 4),
    at_the_write=st.booleans(),
    cut_off_s=st.sampled_from((5.0, 20.0)),
    come=st.integers(2, 6),
    stay=st.integers(1, 3),
    pause_s=st.sampled_from((0.0, 0.004, 0.1)),
)
setups = st.builds(
    Setup,
    prefixes=st.sampled_from((False, False, False, False, True)),
    pre=st.integers(0, 2),
    above=st.integers(0, 2),
    maximum=st.sampled_from((None, None, None, 5)),
    visible_after_s=st.sampled_from((0.0, 0.0, 2.0, 5.0)),
    attach_delay_s=st.sampled_from((0.0, 1.0)),
    scattered=st.booleans(),
    pods=st.integers(2, 6),
    stay=st.integers(0, 3),
    began=st.sampled_from(
        (("yielded",), ("yielded", "PATCH before"), ("reclaimed",), ("moved",), ("moved", "PATCH before"))
    ),
    rush=st.integers(0, 6),
    strangers=st.sampled_from((0, 0, 0, 6)),
)
