#!/usr/bin/env python3
"""Calls goim's gRPC services with grpcio, the library of gRPC's own project.

    goim.py [--gzip] ADDRESS SECRET SERVICE/METHOD JSON

Prints the answer as JSON, or fails with the code and the message of the error. Fields are spelled as protobuf's
JSON has them. Only grpcio is needed: messages are put together here, by the numbers of goim's contracts.
"""

import base64
import json
import sys

import grpc

# Fields of each message: name, number, kind. A list of one kind is a repeated field, a pair a map.
PROTO = [("ver", 1, "int32"), ("op", 2, "int32"), ("seq", 3, "int32"), ("body", 4, "bytes")]
BACKOFF = [("maxDelay", 1, "int32"), ("baseDelay", 2, "int32"), ("factor", 3, "float"), ("jitter", 4, "float")]
SESSION = [("mid", 1, "int64"), ("key", 2, "string"), ("server", 3, "string")]
METHODS = {
    "goim.comet.Comet/PushMsg": ([("keys", 1, ["string"]), ("proto", 2, PROTO), ("protoOp", 3, "int32")], []),
    "goim.comet.Comet/Broadcast": ([("protoOp", 1, "int32"), ("proto", 2, PROTO), ("speed", 3, "int32")], []),
    "goim.comet.Comet/BroadcastRoom": ([("roomID", 1, "string"), ("proto", 2, PROTO)], []),
    "goim.comet.Comet/Rooms": ([], [("rooms", 1, ("string", "bool"))]),
    "goim.logic.Logic/Connect": (
        [("server", 1, "string"), ("cookie", 2, "string"), ("token", 3, "bytes")],
        [
            ("mid", 1, "int64"),
            ("key", 2, "string"),
            ("roomID", 3, "string"),
            ("accepts", 4, ["int32"]),
            ("heartbeat", 5, "int64"),
        ],
    ),
    "goim.logic.Logic/Disconnect": (SESSION, [("has", 1, "bool")]),
    "goim.logic.Logic/Heartbeat": (SESSION, []),
    "goim.logic.Logic/RenewOnline": (
        [("server", 1, "string"), ("roomCount", 2, ("string", "int32"))],
        [("allRoomCount", 1, ("string", "int32"))],
    ),
    "goim.logic.Logic/Receive": ([("mid", 1, "int64"), ("proto", 2, PROTO)], []),
    "goim.logic.Logic/Nodes": (
        [("platform", 1, "string"), ("clientIP", 2, "string")],
        [
            ("domain", 1, "string"),
            ("tcpPort", 2, "int32"),
            ("wsPort", 3, "int32"),
            ("wssPort", 4, "int32"),
            ("heartbeat", 5, "int32"),
            ("nodes", 6, ["string"]),
            ("backoff", 7, BACKOFF),
            ("heartbeatMax", 8, "int32"),
        ],
    ),
}


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, kind, value):
    if kind in ("int32", "int64", "bool"):
        return varint(number << 3) + varint(int(value))
    if isinstance(kind, (list, tuple)) and not isinstance(kind, str):
        value = encode(kind, value)
    else:
        value = value.encode() if kind == "string" else base64.b64decode(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def encode(fields, message):
    out = b""
    for name, number, kind in fields:
        if name not in message:
            continue
        value = message[name]
        if isinstance(kind, tuple):
            entry = [("k", 1, kind[0]), ("v", 2, kind[1])]
            out += b"".join(field(number, entry, {"k": k, "v": v}) for k, v in value.items())
        elif isinstance(kind, list) and isinstance(kind[0], str):
            out += b"".join(field(number, kind[0], one) for one in value)
        else:
            out += field(number, kind, value)
    unknown = set(message) - {name for name, _, _ in fields}
    assert not unknown, f"the message has no {unknown}"
    return out


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        self.at += length
        assert self.at <= len(self.data), "the answer ends within a field"
        return self.data[self.at - length : self.at]

    def varint(self):
        number, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number


def value(kind, raw):
    if kind in ("int32", "int64"):
        number = raw - (1 << 64) if raw >> 63 else raw
        return str(number) if kind == "int64" else number
    if kind == "bool":
        return bool(raw)
    if kind == "string":
        return raw.decode()
    if kind == "bytes":
        return base64.b64encode(raw).decode()
    if kind == "float":
        import struct

        return round(struct.unpack("<f", raw)[0], 6)
    return decode(kind, raw)


def decode(fields, data):
    message, reader = {}, Reader(data)
    kinds = {number: (name, kind) for name, number, kind in fields}
    while reader.at < len(data):
        tag = reader.varint()
        name, kind = kinds[tag >> 3]
        raw = {0: reader.varint, 2: lambda: reader.take(reader.varint()), 5: lambda: reader.take(4)}[tag & 7]()
        if isinstance(kind, tuple):
            entry = decode([("k", 1, kind[0]), ("v", 2, kind[1])], raw)
            message.setdefault(name, {})[entry["k"]] = entry.get("v", 0)
        elif isinstance(kind, list) and isinstance(kind[0], str):
            if tag & 7 == 2 and kind[0] != "string":
                packed = Reader(raw)
                while packed.at < len(raw):
                    message.setdefault(name, []).append(value(kind[0], packed.varint()))
            else:
                message.setdefault(name, []).append(value(kind[0], raw))
        else:
            message[name] = value(kind, raw)
    return message


def main(arguments):
    gzip = arguments[0] == "--gzip"
    address, secret, method, message = arguments[gzip:]
    request, reply = METHODS[method]
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/" + method)
        metadata = [("authorization", "Bearer " + secret)] if secret else []
        compression = grpc.Compression.Gzip if gzip else None
        try:
            answer = call(
                encode(request, json.loads(message)), timeout=20, metadata=metadata, compression=compression
            )
        except grpc.RpcError as error:
            sys.exit(f"Code: {error.code().name}\nMessage: {error.details()}")
    print(json.dumps(decode(reply, answer)))


if __name__ == "__main__":
    main(sys.argv[1:])
