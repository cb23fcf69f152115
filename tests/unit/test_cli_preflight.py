import copy

import pytest
from botocore.exceptions import ClientError

from enitide_api.crds import definitions
from enitide_api.resources import ENIClass, ENIClassSpec, InstanceFacts, InterfacePolicy, Metadata, PoolLevels, Selector
from enitide_ipam.model import GroupView, SubnetView
from enitide_operator.cli import checks
from enitide_operator.cli.checks import FAILING, OK, UNCHECKED, Machine
from enitide_operator.ec2.permissions import Caller, Permission, Target, caller_of, permissions

pytestmark = pytest.mark.unit
WANTED = {body["metadata"]["name"]: body for body in definitions().values()}


def machine(kind="m5.large", kernel="6.1.0-x", zone="z-a", subnet="s-1", **policy):
    facts = InstanceFacts(id="i-1", type=kind, availability_zone=zone, vpc_id="vpc-1", subnet_id=subnet)
    class_ = ENIClassSpec(interfaces=InterfacePolicy(**policy))
    return Machine("n", facts, ("sg-1",), kernel, "default", class_)


def subnet(name="s-1", free=100, zone="z-a", table="rt-1"):
    return SubnetView(id=name, vpc_id="vpc-1", zone=zone, cidr="10.0.0.0/24", free=free, route_table=table)


def states(found):
    return [each.state for each in found]


def test_definitions_of_this_version_pass_and_others_name_what_lacks():
    assert set(states(checks.crd_checks(WANTED, WANTED))) == {OK}
    assert set(states(checks.crd_checks({}, WANTED))) == {FAILING}
    older = copy.deepcopy(WANTED)
    status = older["eninodes.enitide.io"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    del status["properties"]["releasing"]
    (bad,) = [each for each in checks.crd_checks(older, WANTED) if each.state == FAILING]
    assert bad.detail == "lacks .status.releasing"
    older["eninodes.enitide.io"]["spec"]["versions"][0]["served"] = False
    assert "does not serve v1alpha1" in next(c.detail for c in checks.crd_checks(older, WANTED) if c.state == FAILING)


def test_a_newer_definition_with_more_fields_passes():
    newer = copy.deepcopy(WANTED)
    schema = newer["eninodes.enitide.io"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["status"]["properties"]["more"] = {"type": "string"}
    assert set(states(checks.crd_checks(newer, WANTED))) == {OK}


def test_a_zone_without_room_or_without_a_match_fails_with_its_reason():
    assert states(checks.subnet_checks([machine()], [subnet()])) == [OK]
    (full,) = checks.subnet_checks([machine()], [subnet(free=0)])
    assert (full.state, full.next) == (FAILING, "docs/runbook.md#subnetexhausted")
    (none,) = checks.subnet_checks([machine(subnet_selector=Selector(tags={"role": "pods"}))], [subnet()])
    assert none.next == "docs/runbook.md#noeligiblesubnet"
    (unknown,) = checks.subnet_checks([], [subnet()])
    assert unknown.state == UNCHECKED


def test_nodes_in_two_subnets_of_one_zone_are_judged_each():
    nodes = [machine(subnet="s-1"), machine(subnet="s-2")]
    found = checks.subnet_checks(nodes, [subnet("s-1", free=0), subnet("s-2", free=9, table="rt-2")])
    assert states(found) == [FAILING, OK]


def test_groups_that_do_not_exist_fail():
    known = [GroupView("sg-1", "vpc-1")]
    assert states(checks.group_checks([machine()], known)) == [OK]
    (bad,) = checks.group_checks([machine(security_group_selector=Selector(ids=("sg-9",)))], known)
    assert (bad.state, bad.next) == (FAILING, "docs/runbook.md#securitygroupsmissing")


def test_limits_are_known_by_table_or_by_ec2_or_fail():
    found = checks.limit_checks([machine(), machine("zz1.odd"), machine("zz2.new")], {"zz2.new": True})
    assert {each.check: each.state for each in found} == {"1 types": OK, "zz1.odd": FAILING, "zz2.new": OK}


def test_old_kernels_fail_and_what_only_the_agent_sees_is_not_checked():
    assert states(checks.kernel_checks([machine()])) == [OK, UNCHECKED]
    assert states(checks.kernel_checks([machine(kernel="5.10.9-amzn")])) == [FAILING, UNCHECKED]
    assert states(checks.kernel_checks([machine(kernel="")])) == [UNCHECKED, UNCHECKED]


def test_a_class_that_contradicts_itself_fails():
    spec = ENIClassSpec(pool=PoolLevels(min_allocate=9, max_allocate=3))
    assert states(checks.class_checks([ENIClass(metadata=Metadata(name="c"), spec=spec)])) == [FAILING]


def test_a_verb_that_could_not_be_asked_is_not_taken_for_allowed():
    found = checks.iam_checks(
        [Permission("A", True, "dry run"), Permission("B", None, "w"), Permission("C", False, "x")]
    )
    assert states(found) == [OK, UNCHECKED, FAILING]
    assert found[0].check == "1 verbs"


# --- permissions -----------------------------------------------------------------------------------------------------


class Answers:
    """A client whose every call is answered with a code, by verb."""

    def __init__(self, **codes):
        self.codes = codes
        self.asked = []

    def __getattr__(self, name):
        def call(**options):
            assert options.get("DryRun") is True
            self.asked.append(name)
            code = self.codes.get(name, "DryRunOperation")
            raise ClientError({"Error": {"Code": code}}, name)

        return call


class Iam:
    def __init__(self, decision="allowed", refused=""):
        self.decision, self.refused, self.asked = decision, refused, None

    def simulate_principal_policy(self, **options):
        if self.refused:
            raise ClientError({"Error": {"Code": self.refused}}, "SimulatePrincipalPolicy")
        self.asked = options
        names = options["ActionNames"]
        return {"EvaluationResults": [{"EvalActionName": n, "EvalDecision": self.decision} for n in names]}


CALLER = Caller("arn:aws:sts::1:assumed-role/op/x", "1", "arn:aws:iam::1:role/op")
WHOLE = Target("prod", "subnet-1", "i-1", "eni-1", "eni-attach-1")


def ask(ec2, iam, target=WHOLE):
    return {each.verb: each for each in permissions(ec2, iam, CALLER, "us-west-2", target)}


def test_every_verb_of_the_policy_is_asked_and_none_is_done():
    from enitide_api.iam import policy

    named = {a.partition(":")[2] for s in policy("prod")["Statement"] for a in s["Action"]}
    found = ask(Answers(), Iam())
    assert named - {"AssociateAddress"} == set(found)
    assert all(each.allowed for each in found.values())
    assert found["AssignPrivateIpAddresses"].how == "policy simulation"
    assert found["DeleteNetworkInterface"].how == "dry run"


def test_a_refused_dry_run_is_a_no_and_any_other_answer_is_none():
    ec2 = Answers(delete_network_interface="UnauthorizedOperation", attach_network_interface="InvalidParameterValue")
    found = ask(ec2, Iam(refused="AccessDenied"))
    assert found["DeleteNetworkInterface"].allowed is False
    assert found["AttachNetworkInterface"].allowed is None
    assert "AccessDenied" in found["AttachNetworkInterface"].how


def test_what_the_simulation_denies_is_a_no():
    found = ask(Answers(), Iam("implicitDeny"))
    assert found["AssignPrivateIpAddresses"].allowed is False


def test_without_an_eni_of_the_cluster_its_verbs_are_simulated_with_the_clusters_tag():
    iam = Iam()
    found = ask(Answers(), iam, Target("prod", "subnet-1", "i-1"))
    assert found["DeleteNetworkInterface"].how == "policy simulation"
    keys = {each["ContextKeyName"]: each["ContextKeyValues"] for each in iam.asked["ContextEntries"]}
    assert keys["aws:ResourceTag/enitide.io/cluster"] == ["prod"]
    assert iam.asked["PolicySourceArn"] == "arn:aws:iam::1:role/op"


def test_a_session_of_a_role_stands_for_the_role_and_root_for_nobody():
    class Sts:
        def __init__(self, arn):
            self.arn = arn

        def get_caller_identity(self):
            return {"Arn": self.arn, "Account": "1"}

    assert caller_of(Sts("arn:aws-cn:sts::1:assumed-role/op/session")).source == "arn:aws-cn:iam::1:role/op"
    assert caller_of(Sts("arn:aws:iam::1:user/ann")).source == "arn:aws:iam::1:user/ann"
    assert caller_of(Sts("arn:aws:iam::1:root")).source == ""
