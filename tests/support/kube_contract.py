"""What the contract tests share: their own custom resource, bounded waiting, and objects by short names."""

import asyncio

import msgspec

from enitide_api.errors import KubeForbidden, KubeNotFound
from enitide_kube.port import CRD, NODE, POD, Kind

WIDGET = Kind("contract.enitide.io", "v1", "Widget", "widgets", namespaced=False)
GADGET = Kind("contract.enitide.io", "v1", "Gadget", "gadgets", namespaced=False)

_SPEC = {
    "type": "object",
    "properties": {
        "size": {"type": "integer", "minimum": 0, "maximum": 100, "default": 4},
        "limit": {"type": "integer", "minimum": 0},
        "mode": {"type": "string", "enum": ["open", "closed"], "default": "open"},
        "code": {"type": "string", "maxLength": 8, "pattern": "^[a-z]*$"},
        "owner": {"type": "string", "maxLength": 20},
        "tags": {"type": "object", "maxProperties": 4, "additionalProperties": {"type": "string", "maxLength": 8}},
        "addresses": {"type": "array", "maxItems": 4, "items": {"type": "string", "maxLength": 40}},
        "inner": {
            "type": "object",
            "default": {},
            "properties": {"depth": {"type": "integer", "default": 7}, "note": {"type": "string", "nullable": True}},
        },
        "parts": {
            "type": "array",
            "maxItems": 8,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["id"],
            "items": {
                "type": "object",
                "required": ["id"],
                "properties": {"id": {"type": "string", "maxLength": 8}, "weight": {"type": "integer"}},
            },
        },
    },
    "x-kubernetes-validations": [
        {"rule": "!has(self.limit) || self.size <= self.limit", "message": "size is above limit: raise limit"},
        {"rule": "!has(self.tags) || self.tags.all(k, !k.startsWith('aws:'))", "message": "no tag may begin with aws:"},
        {
            "rule": "!has(oldSelf.owner) || (has(self.owner) && self.owner == oldSelf.owner)",
            "message": "owner never changes: make another widget",
        },
    ],
}


def widget_crd(kind=WIDGET, spec=None):
    """The definition of the suite's resource."""
    schema = {
        "type": "object",
        "properties": {
            "spec": spec or _SPEC,
            "status": {
                "type": "object",
                "properties": {"phase": {"type": "string"}, "count": {"type": "integer"}},
            },
        },
    }
    return {
        "apiVersion": CRD.api_version,
        "kind": CRD.kind,
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Cluster",
            "names": {
                "kind": kind.kind,
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "listKind": f"{kind.kind}List",
                "shortNames": [kind.kind[:2].lower()],
            },
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                    "additionalPrinterColumns": [
                        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                        {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
                        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                    ],
                }
            ],
        },
    }


def decoded(raw):
    return msgspec.json.decode(raw)


def version(raw):
    return decoded(raw)["metadata"]["resourceVersion"]


def widget(name, labels=None, **spec):
    metadata = {"name": name} | ({"labels": labels} if labels else {})
    return {"apiVersion": WIDGET.api_version, "kind": WIDGET.kind, "metadata": metadata, "spec": spec}


def pod(name, **spec):
    spec = {"containers": [{"name": "main", "image": "pause"}], "automountServiceAccountToken": False} | spec
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def node(name, **spec):
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}


async def until(condition, otherwise, within_s=20.0):
    """What the coroutine function `condition` returns once that is true."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        value = await condition()
        if value:
            return value
        assert loop.time() < deadline, f"{otherwise} (waited {within_s:.0f} s)"
        await asyncio.sleep(0.02)


async def until_exists(kube, kind, name, namespace=""):
    async def there():
        try:
            return await kube.get(kind, name, namespace=namespace)
        except KubeNotFound:
            return b""

    return await until(there, f"{kind.kind} {name} does not appear")


async def until_gone(kube, kind, name, namespace=""):
    async def away():
        try:
            await kube.get(kind, name, namespace=namespace)
        except KubeNotFound:
            return True
        return False

    await until(away, f"{kind.kind} {name} does not go")


async def create_crd(kube, definition):
    """Creates it and waits until its objects can be listed."""
    await kube.create(CRD, definition)
    names, group = definition["spec"]["names"], definition["spec"]["group"]
    kind = Kind(group, definition["spec"]["versions"][0]["name"], names["kind"], names["plural"], namespaced=False)

    async def established():
        status = decoded(await kube.get(CRD, definition["metadata"]["name"])).get("status") or {}
        conditions = status.get("conditions") or []
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    async def served():
        try:
            return await kube.list(kind)
        except KubeNotFound:
            return None

    await until(established, "the definition is not established")
    await until(served, "the definition is not served")


async def create_pod(kube, name, cleanup, **spec):
    """A pod of namespace default. A young cluster refuses pods until its default service account is there."""

    async def made():
        try:
            return await kube.create(POD, pod(name, **spec), namespace="default")
        except KubeForbidden:
            return b""

    raw = await until(made, "the pod is refused")
    cleanup(POD, name, "default")
    return raw


async def create_node(kube, name, cleanup, **spec):
    raw = await kube.create(NODE, node(name, **spec))
    cleanup(NODE, name)
    return raw


async def collect(watch, count, within_s=20.0):
    """The first `count` events of a watch that are no bookmarks, as (type, name, object)."""
    found = []
    async with asyncio.timeout(within_s):
        async for event in watch:
            if event.type == "BOOKMARK":
                continue
            obj = decoded(event.object)
            found.append((event.type, obj["metadata"]["name"], obj))
            if len(found) == count:
                break
    await watch.aclose()
    return found
