"""Cuts moto's listings into pages, because moto answers these calls with everything at once.

The reply is cut as XML: items in ascending order of their id, `nextToken` naming the last one, the bounds and
refusals those of the model's own listings.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree as ET

from enitide_lab.ec2model import listing
from enitide_lab.ec2model.errors import bad_value

# verb: the list's element, the id's element within an item, the name of the ids' parameter, most per page
PAGED: Mapping[str, tuple[str, str, str, int]] = {
    "DescribeVpcs": ("vpcSet", "vpcId", "VpcId", 1000),
    "DescribeSecurityGroups": ("securityGroupInfo", "groupId", "GroupId", 1000),
    "DescribeRouteTables": ("routeTableSet", "routeTableId", "RouteTableId", 100),
}


def cut_page(verb: str, body: bytes, form: Mapping[str, str]) -> tuple[bytes, int]:
    """The page that `form` asks for out of moto's whole reply, and how many items it holds."""
    list_name, id_name, ids_name, most = PAGED[verb]
    asked = form.get("MaxResults")
    if asked is not None and not asked.isdigit():
        raise bad_value(f"Value ({asked}) for parameter maxResults is invalid. Must be a number.")
    window = listing.window(
        ids=[value for key, value in form.items() if key.startswith(f"{ids_name}.")],
        ids_name=f"{ids_name}s",
        max_results=None if asked is None else int(asked),
        next_token=form.get("NextToken"),
        most=most,
    )
    root = ET.fromstring(body)  # noqa: S314 - moto's own reply, made in this process
    namespace, _, _ = root.tag[1:].partition("}")
    ET.register_namespace("", namespace)
    q = f"{{{namespace}}}"
    container = root.find(q + list_name)
    if container is None:
        return body, 0
    items = {item.findtext(q + id_name, ""): item for item in container.findall(f"{q}item")}
    page = listing.cut(items, items.get, window)
    container[:] = page.items
    for stale in root.findall(f"{q}nextToken"):
        root.remove(stale)
    if page.next_token is not None:
        ET.SubElement(root, f"{q}nextToken").text = page.next_token
    return ET.tostring(root, encoding="utf-8", xml_declaration=True), len(page.items)
