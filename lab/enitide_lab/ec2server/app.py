"""One EC2 call from its request to its reply: parse, rule, act, answer. And the way to moto for everything else.

A call of EC2 in the model's Region goes through the physics (throttling, faults, log), whoever answers it: the model
for the verbs of `verbs.py`, else moto, whose world is mirrored afterwards and whose long listings are cut into pages
here, because moto has none. Calls for other services and Regions go straight to moto.

One lock is held while either side acts, since moto is not thread-safe; waiting (latency, delay) happens outside it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from threading import Condition
from typing import Any
from urllib.parse import urlencode

from enitide_lab.ec2model import EC2Model, Effect, ModelError, Physics
from enitide_lab.ec2model.errors import dry_run
from enitide_lab.ec2server import wire
from enitide_lab.ec2server.motoworld import MotoWorld
from enitide_lab.ec2server.pages import PAGED, cut_page
from enitide_lab.ec2server.shapes import Shapes
from enitide_lab.ec2server.verbs import VERBS, Context, answer, reservations

Environ = Mapping[str, Any]
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
XML = "text/xml;charset=UTF-8"
_CREDENTIAL = re.compile(r"Credential=([^/]*)/\d+/([^/]*)/([^/]*)/aws4_request")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply; `drop`: send nothing and close the connection."""

    status: int
    body: bytes
    content_type: str = XML
    headers: tuple[tuple[str, str], ...] = ()
    drop: bool = False


class Endpoint:
    """The EC2 endpoint of one model."""

    def __init__(
        self, model: EC2Model, physics: Physics, moto_app: Wsgi, epoch_s: Callable[[], float] = time.time
    ) -> None:
        self.model = model
        self.physics = physics
        self.changed = Condition()
        self.moto = MotoWorld(model)
        self._moto_app = moto_app
        offset_s = epoch_s() - model.clock()
        self.context = Context(model, self.moto, Shapes(model, lambda at_s: at_s + offset_s, self.moto.association))

    # --- one call ------------------------------------------------------------------------------------------------

    def handle(self, environ: Environ, body: bytes) -> Reply:
        """Any AWS request."""
        scope = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        key, region, service = scope.groups() if scope else ("", "", "")
        form = wire.read_form(body.decode()) if "x-www-form-urlencoded" in environ.get("CONTENT_TYPE", "") else {}
        verb = form.get("Action", "")
        if service == "ec2" and region == self.model.region and verb:
            return self._ec2(verb, form, environ, caller=key)
        with self.changed:
            reply = self._forward(environ, body)
            if environ["REQUEST_METHOD"] != "GET":
                self.moto.sync()
            self.changed.notify_all()
        return reply

    def _ec2(self, verb: str, form: Mapping[str, str], environ: Environ, *, caller: str) -> Reply:
        with self.changed:
            everything = not any(key.startswith(("Filter.", "MaxResults")) or "Id." in key for key in form)
            ruling = self.physics.rule(verb, self._subjects(form), unfiltered=everything)
        _wait(ruling.delay_s / 2)
        items = 0
        with self.changed:
            outcome = "ok"
            try:
                if ruling.refuse is not None:
                    raise ruling.refuse
                if ruling.effect is Effect.EMPTY:
                    reply = Reply(200, wire.render(verb, wire.nothing(verb)))
                else:
                    reply, items = self._act(verb, form, environ)
                    outcome = "ok" if reply.status < 300 else _code_in(reply.body)
            except ModelError as exc:
                outcome, reply = exc.code, Reply(exc.http_status, wire.render_error(exc))
            if ruling.after is not None and outcome == "ok":
                outcome, reply = ruling.after.code, Reply(ruling.after.http_status, wire.render_error(ruling.after))
            if ruling.effect in (Effect.LOST, Effect.GARBAGE, Effect.CRASH) and outcome == "ok":
                outcome = str(ruling.effect)
                reply = Reply(200, b"<html><body>bad gateway", "text/html", drop=ruling.effect is not Effect.GARBAGE)
                if ruling.effect is Effect.CRASH:
                    self.model.tell(f"crash:{verb}")
            self.physics.record(verb, outcome, caller=caller, items=items)
            self.changed.notify_all()
        _wait(ruling.delay_s / 2)
        return reply

    def _subjects(self, form: Mapping[str, str]) -> set[str]:
        """Everything that the call names: ids, tag values, words of its description, instances of named ENIs."""
        named = {word for value in form.values() for word in value.split()}
        for value in list(named):
            record = self.model.interfaces.get(value) or self.model.by_attachment.get(value)
            if record is not None and record.attachment is not None:
                named.add(record.attachment.instance.id)
        return named

    def _act(self, verb: str, form: Mapping[str, str], environ: Environ) -> tuple[Reply, int]:
        if verb in VERBS:
            result = answer(self.context, verb, wire.parse(verb, form))
            return Reply(200, wire.render(verb, result)), _items(result)
        self._guard(verb, form)
        sent = {
            key: value for key, value in form.items() if key not in ("MaxResults", "NextToken") or verb not in PAGED
        }
        try:
            reply = self._forward(environ, urlencode(sent).encode())
        except NotImplementedError as exc:  # moto's way of saying that it lacks a verb or a filter
            raise ModelError("UnsupportedOperation", f"{verb} is not supported by the lab's EC2: {exc}") from exc
        if not verb.startswith(("Describe", "Get")):
            self.moto.sync()
        if reply.status >= 300:
            return reply, 0
        if verb in PAGED:
            body, items = cut_page(verb, reply.body, form)
            return Reply(200, body), items
        return self._correct(verb, form, reply), 0

    def _guard(self, verb: str, form: Mapping[str, str]) -> None:
        """What moto would allow and EC2 does not: removing what ENIs still stand on."""
        if (
            verb == "DeleteSubnet"
            and (subnet := self.model.subnets.get(form.get("SubnetId", "")))
            and subnet.interfaces
        ):
            raise ModelError("DependencyViolation", f"The subnet '{subnet.id}' has dependencies and cannot be deleted.")
        if verb == "DeleteSecurityGroup" and (group := self.model.groups.get(form.get("GroupId", ""))) and group.uses:
            raise ModelError("DependencyViolation", f"resource {group.id} has a dependent object")
        if verb in ("AssociateAddress", "RunInstances") and form.get("DryRun", "").lower() == "true":
            raise dry_run()

    def _correct(self, verb: str, form: Mapping[str, str], reply: Reply) -> Reply:
        """Moto did it; the model tells how it is now, where moto's own words would be wrong."""
        if verb == "RunInstances":
            made = re.findall(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", reply.body)
            views = self.model.describe_instances([name.decode() for name in made]).items
            return Reply(200, wire.render(verb, reservations(self.context, views)[0]))
        if verb in ("CreateSubnet", "CreateDefaultSubnet"):
            found = re.search(rb"<subnetId>(subnet-[0-9a-f]+)</subnetId>", reply.body)
            if found and (subnet_id := found[1].decode()) in self.model.subnets:
                view = self.model.describe_subnets([subnet_id]).items[0]
                return Reply(200, wire.render(verb, {"Subnet": self.context.shapes.subnet(view)}))
        if verb == "AssociateAddress" and "PrivateIpAddress" in form and "AllocationId" in form:
            self.moto.secondary_association[form["AllocationId"]] = form["PrivateIpAddress"]
        if verb in ("AssociateAddress", "DisassociateAddress") and "PrivateIpAddress" not in form:
            self.moto.secondary_association.pop(form.get("AllocationId", ""), None)
        return reply

    def _forward(self, environ: Environ, body: bytes) -> Reply:
        """Let moto answer."""
        inner = {**environ, "wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        started: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], _exc: Any = None) -> Callable[[bytes], None]:
            started.update(status=int(status.partition(" ")[0]), headers=headers)
            return lambda _: None

        chunks = self._moto_app(inner, start_response)
        try:
            content = b"".join(chunks)
        finally:
            if (close := getattr(chunks, "close", None)) is not None:
                close()
        kept = tuple(
            (k, v) for k, v in started["headers"] if k.lower() not in ("content-length", "connection", "content-type")
        )
        kinds = [value for name, value in started["headers"] if name.lower() == "content-type"]
        return Reply(started["status"], content, kinds[0] if kinds else XML, kept)

    def reset(self) -> None:
        """An EC2 as new: world, faults, counts."""
        with self.changed:
            self.moto.reset()
            self.physics.remove()
            self.physics.counts.clear()
            self.physics.calls.clear()
            self.physics.largest_reply = 0
            self.physics.throttle(on=False)
            self.model.tell("reset")
            self.changed.notify_all()


def _wait(delay_s: float) -> None:
    if delay_s > 0:  # even a sleep of nothing gives the processor away
        time.sleep(delay_s)


def _code_in(body: bytes) -> str:
    found = re.search(rb"<Code>([^<]*)</Code>", body)
    return found[1].decode() if found else "InternalError"


def _items(result: Mapping[str, Any]) -> int:
    """How many things a listing holds: instances rather than reservations."""
    lists = [value for value in result.values() if isinstance(value, list)]
    if "Reservations" in result:
        return sum(len(entry["Instances"]) for entry in result["Reservations"])
    return max((len(value) for value in lists), default=0)
