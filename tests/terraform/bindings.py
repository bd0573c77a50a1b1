"""The schema of one resource, read from CDK Terrain's bindings of it: generated JavaScript, always of one form.

The bindings are made from what `terraform providers schema -json` says, and keep all of it but descriptions and which
attributes are sensitive. What comes out has that command's form: `attributes`, each with its type and whether it is
required, optional or computed, and `block_types`.
"""

import re
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

CLASS = re.compile(r"^class (\w+) extends cdktn\.(\w+) \{\n(.*?)^\}$", re.MULTILINE | re.DOTALL)
TO_HCL = re.compile(r"^function (\w+)ToHclTerraform\(struct\) \{\n(.*?)^\}$", re.MULTILINE | re.DOTALL)
ARGUMENT = re.compile(
    r"^ +(\w+): \{\n +value: (.*),\n +isBlock: (true|false),\n +type: \"(\w+)\",\n +storageClassType: \"(\w+)\",\n",
    re.MULTILINE,
)
"""What may be written in a configuration: of a resource by `synthesizeHclAttributes`, of a block by its function."""
FLAGS = re.compile(
    r"^    // (\w+) - computed: (true|false), optional: (true|false), required: (true|false)\n"
    r"(.*?)(?=^    // \w+ - computed|^    // =====|\Z)",
    re.MULTILINE | re.DOTALL,
)
"""What a resource or a block has, each with the code that reads it."""

PRIMITIVES = {"string": "string", "number": "number", "boolean": "bool"}
LISTS = {"stringList": "string", "numberList": "number", "booleanList": "bool"}
MAPS = {"stringMap": "string", "numberMap": "number", "booleanMap": "bool"}
READ_BY = {
    "String": "string",
    "Number": "number",
    "Boolean": "bool",
    "List": ["list", "string"],
    "NumberList": ["list", "number"],
    "StringMap": ["map", "string"],
    "NumberMap": ["map", "number"],
    "BooleanMap": ["map", "bool"],
}
"""The type of what is only read, by the name of the method that reads it."""
WRAPPED_IN = {
    "StringMap": ["map", "string"],
    "NumberMap": ["map", "number"],
    "BooleanMap": ["map", "bool"],
    "StringMapList": ["list", ["map", "string"]],
}
"""Likewise, by the class that it is wrapped in."""
ANY = "dynamic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument or block of a configuration, as the bindings write it. `kind`: simple, list, set, map or struct."""

    name: str
    value: str
    is_block: bool
    kind: str
    storage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the provider says of an attribute or a block, and the JavaScript that reads it."""

    given: dict[str, bool]
    getter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`kind`: TerraformResource, TerraformDataSource or TerraformProvider; `type` is its name in configurations."""

    kind: str
    type: str
    block: Schema


class Bindings:
    """One file `lib/<resource>/index.js`."""

    def __init__(self, text: str) -> None:
        self._bases = {name: base for name, base, _ in CLASS.findall(text)}
        self._classes = {name: body for name, _, body in CLASS.findall(text)}
        # The name of a block's function begins with a small letter, that of its class with a capital one.
        self._names = {name.lower(): name for name in self._classes}
        self._to_hcl = {name.lower(): body for name, body in TO_HCL.findall(text)}

    def found(self) -> Found | None:
        """What the file is of; None: of nothing that a configuration names (an ephemeral resource, a function)."""
        kinds = {"TerraformResource", "TerraformDataSource", "TerraformProvider"}
        for name, base in self._bases.items():
            if base in kinds:
                body = self._classes[name]
                named = re.search(r'tfResourceType = "([\w-]+)"', body)
                assert named is not None
                written = body[body.index("synthesizeHclAttributes()") :]
                return Found(kind=base, type=named[1], block=self._block(_arguments(written), self._flags(name)))
        return None

    def _flags(self, class_name: str) -> dict[str, Flags]:
        return {
            name: Flags(
                given={
                    flag: True
                    for flag, said in (("computed", computed), ("optional", optional), ("required", required))
                    if said == "true"
                },
                getter=getter,
            )
            for name, computed, optional, required, getter in FLAGS.findall(self._classes[class_name])
        }

    def _block(self, arguments: list[Argument], flags: dict[str, Flags]) -> Schema:
        attributes: Schema = {}
        blocks: Schema = {}
        for argument in arguments:
            given = flags[argument.name].given if argument.name in flags else {"optional": True}
            if argument.is_block:
                blocks[argument.name] = self._nested(argument, required="required" in given)
            else:
                attributes[argument.name] = {"type": self._type(argument), **given}
        for name, flag in flags.items():
            if name not in attributes and name not in blocks:
                attributes[name] = {"type": self._read_type(flag.getter), **flag.given}
        # What every configuration may say of a provider is Terraform's own.
        attributes.pop("alias", None)
        return {"attributes": attributes, "block_types": blocks}

    def _nested(self, argument: Argument, *, required: bool) -> Schema:
        stem = _stem(argument)
        class_name = self._names.get(f"{stem}OutputReference".lower())
        flags = self._flags(class_name) if class_name else {}
        block = self._block(_arguments(self._to_hcl[stem.lower()]), flags)
        if argument.kind == "struct":
            return {"nesting_mode": "single", "block": block}
        nested: Schema = {"nesting_mode": argument.kind, "block": block}
        if required:
            nested["min_items"] = 1
        if "listMapperHcl(" not in argument.value:
            nested["max_items"] = 1
        return nested

    def _type(self, argument: Argument) -> Any:
        if argument.kind == "simple":
            return PRIMITIVES.get(argument.storage, ANY)
        if element := LISTS.get(argument.storage) or MAPS.get(argument.storage):
            return [argument.kind, element]
        # A list of objects that may be written as an attribute or as blocks.
        class_name = self._names[f"{_stem(argument)}OutputReference".lower()]
        return [argument.kind if argument.kind in ("list", "set") else "list", self._object(class_name)]

    def _read_type(self, getter: str) -> Any:
        """The type of what no configuration can set."""
        if "cdktn.Fn.tolist" in getter:
            return ["set", "string"]
        if method := re.search(r"this\.get(\w+)Attribute\(", getter):
            return READ_BY.get(method[1], ANY)
        made = re.search(r"= new (?:cdktn\.)?(\w+)\(this, \"\w+\"(?:, (true|false))?\)", getter)
        if made is None:
            return ANY
        if made[1] in self._classes:
            if made[1].endswith("List"):
                return [
                    "set" if made[2] == "true" else "list",
                    self._object(f"{made[1].removesuffix('List')}OutputReference"),
                ]
            return self._object(made[1])
        return WRAPPED_IN.get(made[1], ANY)

    def _object(self, class_name: str) -> Any:
        return ["object", {name: self._read_type(flag.getter) for name, flag in self._flags(class_name).items()}]


def _arguments(code: str) -> list[Argument]:
    return [
        Argument(name=name, value=value, is_block=is_block == "true", kind=kind, storage=storage)
        for name, value, is_block, kind, storage in ARGUMENT.findall(code)
    ]


def _stem(argument: Argument) -> str:
    """What the names of a block's function and class begin with."""
    named = re.search(r"(\w+)ToHclTerraform\b", argument.value.removeprefix("cdktn.listMapperHcl("))
    assert named is not None
    return named[1]
