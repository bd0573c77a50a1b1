"""A stand-in for the Google provider: the real one's schema, served to an unmodified terraform, and nothing is made.

terraform is told where it is by TF_REATTACH_PROVIDERS, and speaks gRPC to it: `tfplugin6` of hashicorp/terraform's
docs/plugin-protocol. It checks names, types, nesting and what is required, as with the real one; what only the real
provider knows (values of enums, conflicts, which change is a replacement) it does not check.
"""

import gzip
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import msgpack
import tfplugin_proto.tfplugin6_5_pb2 as pb

ADDRESS = "registry.terraform.io/hashicorp/google"
SCHEMA = Path(__file__).with_name("schema.json.gz")
UNKNOWN = msgpack.ExtType(0, b"\x00")
"""What is known after it was made, as the protocol writes it."""
NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}

Value = dict[str, Any] | None
Block = dict[str, Any]


def schema() -> dict[str, Any]:
    """`resource_schemas`, `data_source_schemas`, `provider`; whose it is: `version` and `origin`."""
    return json.loads(gzip.decompress(SCHEMA.read_bytes()))


class Provider:
    """Its methods are the calls of the protocol. `replaces`: every change of a resource is one that the resource does
    not survive, which is the worst that a provider may say of it.
    """

    def __init__(self, *, replaces: bool = False) -> None:
        self._schema = schema()
        self._replaces = replaces

    def get_metadata(self, request: Any) -> Any:
        return pb.GetMetadata.Response()

    def get_provider_schema(self, request: Any) -> Any:
        response = pb.GetProviderSchema.Response(provider=_schema_message(self._schema["provider"]))
        for name, block in self._schema["resource_schemas"].items():
            response.resource_schemas[name].CopyFrom(_schema_message(block))
        for name, block in self._schema["data_source_schemas"].items():
            response.data_source_schemas[name].CopyFrom(_schema_message(block))
        return response

    def validate_provider_config(self, request: Any) -> Any:
        return pb.ValidateProviderConfig.Response()

    def configure_provider(self, request: Any) -> Any:
        return pb.ConfigureProvider.Response()

    def validate_resource_config(self, request: Any) -> Any:
        response = pb.ValidateResourceConfig.Response()
        configured = _value(request.config)
        assert configured is not None
        for name in _read_only(self._schema["resource_schemas"][request.type_name], configured):
            response.diagnostics.add(
                severity=pb.Diagnostic.ERROR, summary="Value for unconfigurable attribute", detail=name
            )
        return response

    def validate_data_resource_config(self, request: Any) -> Any:
        return pb.ValidateDataResourceConfig.Response()

    def read_data_source(self, request: Any) -> Any:
        block, value = self._schema["data_source_schemas"][request.type_name], _value(request.config)
        assert value is not None
        _leave_open(block, value)
        _settle(block, value, of=request.type_name)
        return pb.ReadDataSource.Response(state=_message(value))

    def upgrade_resource_state(self, request: Any) -> Any:
        return pb.UpgradeResourceState.Response(upgraded_state=_message(json.loads(request.raw_state.json)))

    def read_resource(self, request: Any) -> Any:
        return pb.ReadResource.Response(new_state=request.current_state)

    def plan_resource_change(self, request: Any) -> Any:
        prior, proposed = _value(request.prior_state), _value(request.proposed_new_state)
        if proposed is None:
            return pb.PlanResourceChange.Response(planned_state=request.proposed_new_state)
        response = pb.PlanResourceChange.Response()
        if prior is None:
            _leave_open(self._schema["resource_schemas"][request.type_name], proposed)
        elif self._replaces:
            for name in (name for name in proposed if proposed[name] != prior[name]):
                response.requires_replace.add(steps=[pb.AttributePath.Step(attribute_name=name)])
        response.planned_state.CopyFrom(_message(proposed))
        return response

    def apply_resource_change(self, request: Any) -> Any:
        planned = _value(request.planned_state)
        if planned is not None:
            _settle(self._schema["resource_schemas"][request.type_name], planned, of=request.type_name)
        return pb.ApplyResourceChange.Response(new_state=_message(planned))

    def stop_provider(self, request: Any) -> Any:
        return pb.StopProvider.Response()


@contextmanager
def serving(provider: Provider) -> Iterator[dict[str, str]]:
    """The variables by which terraform finds it."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    methods = {_call(name): _handler(provider, name) for name in dir(provider) if not name.startswith("_")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tfplugin6.Provider", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    where = {
        "Protocol": "grpc",
        "ProtocolVersion": 6,
        "Pid": os.getpid(),
        "Test": True,
        "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"},
    }
    try:
        yield {"TF_REATTACH_PROVIDERS": json.dumps({ADDRESS: where})}
    finally:
        server.stop(None).wait()


def _call(method: str) -> str:
    """`get_metadata` answers `GetMetadata`."""
    return "".join(map(str.capitalize, method.split("_")))


def _handler(provider: Provider, name: str) -> grpc.RpcMethodHandler:
    method = getattr(provider, name)
    return grpc.unary_unary_rpc_method_handler(
        lambda request, _: method(request),
        request_deserializer=getattr(pb, _call(name)).Request.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


def _schema_message(block: Block) -> Any:
    return pb.Schema(version=0, block=_block_message(block))


def _block_message(block: Block) -> Any:
    message = pb.Schema.Block()
    for name, attribute in block["attributes"].items():
        flags = {flag: attribute.get(flag, False) for flag in ("required", "optional", "computed")}
        message.attributes.add(name=name, type=json.dumps(attribute["type"]).encode(), **flags)
    for name, nested in block["block_types"].items():
        message.block_types.add(
            type_name=name,
            block=_block_message(nested["block"]),
            nesting=NESTING[nested["nesting_mode"]],
            min_items=nested.get("min_items", 0),
            max_items=nested.get("max_items", 0),
        )
    return message


def _value(message: Any) -> Value:
    return msgpack.unpackb(message.msgpack, ext_hook=msgpack.ExtType, strict_map_key=False)


def _message(value: Value) -> Any:
    return pb.DynamicValue(msgpack=msgpack.packb(value))


def _leave_open(block: Block, value: dict[str, Any]) -> None:
    """What is computed and was not given is known later."""
    for name, attribute in block["attributes"].items():
        if attribute.get("computed") and value.get(name) is None:
            value[name] = UNKNOWN
    for nested, one in _nested(block, value):
        _leave_open(nested, one)


def _read_only(block: Block, value: dict[str, Any]) -> Iterator[str]:
    """What is set and can only be read, which terraform leaves to providers to refuse."""
    for name, attribute in block["attributes"].items():
        if not (attribute.get("optional") or attribute.get("required")) and value.get(name) is not None:
            yield name
    for nested, one in _nested(block, value):
        yield from _read_only(nested, one)


def _nested(block: Block, value: dict[str, Any]) -> Iterator[tuple[Block, dict[str, Any]]]:
    for name, nested in block["block_types"].items():
        found = value.get(name)
        found = found if isinstance(found, list) else [found]
        # Not those that are known later.
        yield from ((nested["block"], one) for one in found if isinstance(one, dict))


def _settle(block: Block, value: dict[str, Any], *, of: str) -> None:
    """Something in the place of what is known only now."""
    for name, attribute in block["attributes"].items():
        if isinstance(value.get(name), msgpack.ExtType):
            value[name] = _anything(attribute["type"], f"{of}.{name}")
    for nested, one in _nested(block, value):
        _settle(nested, one, of=of)


def _anything(kind: Any, text: str) -> Any:
    """A value of this type."""
    match kind:
        case "string":
            return text
        case "number":
            return 1
        case ["list" | "set", _]:
            return []
        case _:
            return None
