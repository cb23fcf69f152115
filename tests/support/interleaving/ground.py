"""What there is in one interleaving, as it is and not as a read shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from enitide_api.resources import ENINode, decode
from enitide_ipam.addresses import expand, text
from enitide_ipam.model import TAG_INSTANCE
from enitide_kube.port import ENINODE
from enitide_lab.apistore.port import StoreKube
from enitide_lab.ec2model.state import InterfaceRecord
from support.interleaving.kernel import Kernel
from support.interleaving.node import Agent, Kubelet
from support.interleaving.tally import CountedModel
from support.interleaving.weather import Weather, WeatherKube
from support.operator_sim import Scene

NODES = ("a", "b")


@dataclass(frozen=True, slots=True)
class Setup:
    """What one run begins with.

    `pods` come to each node and only `stay` of them stay; once `began` has happened, one after the other, `rush` more
    come at once. `strangers`: so many ENIs of others lie in the subnet, so that few /28s are whole.
    """

    prefixes: bool
    pre: int
    above: int
    maximum: int | None
    visible_after_s: float
    attach_delay_s: float
    scattered: bool
    pods: int
    stay: int
    began: tuple[str, ...]
    rush: int
    strangers: int = 0
    instance_type: str = "t3.small"

    @property
    def burst(self) -> int:
        """How many pods come at once: enough of them that whole /28s come free."""
        return self.pods * (6 if self.prefixes else 1)

    @property
    def most(self) -> int:
        """Pods of a node at once: some more than its instance type has addresses for, unless by /28s."""
        return 60 if self.prefixes else 12


class WeatherScene(Scene):
    """Operators here live under a sky."""

    model_type = CountedModel
    model: CountedModel

    def __init__(self, weather: Weather, *, subnet_cidr: str) -> None:
        super().__init__(subnet_cidr=subnet_cidr)
        self.weather = weather
        self.model.tally = weather.tally

    def kube_of(self, client: str) -> StoreKube:
        """As the scene's."""
        return WeatherKube(self.store, client, self.weather)


class Ground:
    """EC2, the API server and two nodes. `on_wired` is called after each pod that is wired."""

    def __init__(self, subnet_cidr: str, on_wired: Callable[[], None]) -> None:
        self.tally: Counter[str] = Counter()
        self.weather = Weather(self.tally)
        self.scene = WeatherScene(self.weather, subnet_cidr=subnet_cidr)
        self.kernels = {name: Kernel(lambda _device, _address: on_wired()) for name in NODES}
        self.agents: dict[str, Agent] = {}
        self.kubelets: dict[str, Kubelet] = {}
        self.strangers: set[str] = set()  # ENIs of others in the same subnet

    def devices(self, name: str) -> list[InterfaceRecord]:
        """A node's ENIs."""
        return list(self.scene.model.instances[self.scene.instances[name]].devices.values())

    def device_ids(self, name: str) -> set[str]:
        """Those that its kernel sees: reads lag, devices do not."""
        return {each.id for each in self.devices(name) if each.attachment and each.attachment.status == "attached"}

    def interfaces_of(self, name: str) -> list[InterfaceRecord]:
        """A node's ENIs and those made for it that are not attached, yet or any more."""
        instance, model = self.scene.instances[name], self.scene.model

        def is_of(record: InterfaceRecord) -> bool:
            if record.attachment is not None:
                return record.attachment.instance.id == instance
            return model.tags[record.id].get(TAG_INSTANCE) == instance

        return [each for each in model.interfaces.values() if is_of(each)]

    def eninode(self, name: str) -> ENINode:
        """The resource, without a request."""
        store = self.scene.store
        rtype = store.type_of(ENINODE)
        return decode(store.get(rtype, "", name).raw(rtype), ENINode)


def held(record: InterfaceRecord) -> set[str]:
    """Addresses for pods on an ENI."""
    return {*record.secondaries, *(text(each) for cidr in record.prefixes for each in expand(cidr))}
