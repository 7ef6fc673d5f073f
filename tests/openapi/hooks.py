"""What schemathesis needs to get behind authentication and to speak of what exists. `tests/e2e/openapi.rs` runs it.

FAREBOX_FUZZ names a JSON file: the tokens and secrets of a stack, names of what exists in it (`known`), and where to write how
each operation was answered (`tally`).
"""

import atexit
import base64
import collections
import hashlib
import hmac
import itertools
import json
import os
import time
import zlib

import jsonschema_rs
import requests
import schemathesis

SETTINGS = json.load(open(os.environ["FAREBOX_FUZZ"]))
KNOWN = SETTINGS["known"]

# === who calls ===


def hmac_sha256(key, text):
    return hmac.new(key, text, hashlib.sha256).digest()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def identity():
    """The header that the filter sends: `sidecar/core/src/assertion.rs`."""
    now = int(time.time())
    claims = {"iss": "fuzz", "aud": "farebox", "sub": SETTINGS["user"], "iat": now, "exp": now + 60}
    parts = [{"alg": "HS256", "typ": "JWT"}, claims]
    signed = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    key = hmac_sha256(SETTINGS["gateway_token"].encode(), b"farebox user identity v1")
    return f"{signed}.{base64url(hmac_sha256(key, signed.encode()))}"


class Credentials(requests.auth.AuthBase):
    """What the operation asks for; it sees the request as it is sent, body included."""

    def __call__(self, request):
        if "/callback" in request.url:
            self.sign(request)
        elif "/admin/" in request.url or "/internal/" in request.url:
            request.headers["Authorization"] = f"Bearer {SETTINGS['token']}"
        else:
            request.headers["x-farebox-identity"] = identity()
        return request

    def sign(self, request):
        """A callback, as Standard Webhooks say."""
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        name, now = f"msg_{zlib.crc32(body)}", str(int(time.time()))
        secret = base64.b64decode(SETTINGS["callback_secret"].removeprefix("whsec_"))
        signature = base64.b64encode(hmac_sha256(secret, f"{name}.{now}.".encode() + body)).decode()
        request.headers.update(
            {"webhook-id": name, "webhook-timestamp": now, "webhook-signature": f"v1,{signature}"}
        )


schemathesis.auth.set_from_requests(Credentials())

# === what the document says ===


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Examples fit their schemas, and neither they nor replies have members that are not described."""
    for name, schema in raw_schema["components"]["schemas"].items():
        if name.startswith("Batch_"):
            # An item that cannot be read is answered in its place: the batch is no worse for it.
            items = schema["properties"]["items"]
            items["items"] = {"anyOf": [items["items"], {}]}
    for path, item in raw_schema["paths"].items():
        for method, operation in item.items():
            contents = [operation.get("requestBody", {}).get("content", {})]
            contents += [response.get("content", {}) for response in operation["responses"].values()]
            for content in [content for each in contents for content in each.values()]:
                check_example(f"{method} {path}", content, raw_schema["components"])
            for content in [content for each in contents[1:] for content in each.values()]:
                content["schema"] = strict(content["schema"])


def strict(schema):
    return {"allOf": [schema], "unevaluatedProperties": False} if schema else schema


def check_example(name, content, components):
    if "example" in content:
        schema = strict(content["schema"]) | {"components": components}
        for error in jsonschema_rs.validator_for(schema).iter_errors(content["example"]):
            raise ValueError(f"{name}: an example does not fit its schema: {error.message}")


# === requests that make sense ===


@schemathesis.hook
def before_call(context, case, kwargs):
    """A request that fits its schema speaks mostly of what exists, and keeps the rules that no schema can express."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for place in (case.path_parameters, case.query):
        for name in list(place or {}):
            place[name] = sensible(name, place[name])
    if case.operation.path.endswith("/refund") and case.path_parameters:
        # The others are not paid.
        case.path_parameters["order_id"] = choice(KNOWN["order_id"][:2], case.body)
    act_on_what_is_there(case)
    if case.query:
        # Only a reply can name one.
        case.query.pop("cursor", None)
    if isinstance(case.body, dict):
        items = case.body.get("items")
        for body in items if isinstance(items, list) else [case.body]:
            if isinstance(body, dict):
                agree(case.operation.path, body)
        if case.operation.path in KEY_IN_BODY:
            case.headers.pop("Idempotency-Key", None)
        elif "Idempotency-Key" in (case.headers or {}):
            case.headers["Idempotency-Key"] = key((case.path_parameters, case.body))


def act_on_what_is_there(case):
    """Numbers in a path mean what its first words say, and who is frozen is nobody whose calls are tested."""
    path, place = case.operation.path, case.path_parameters or {}
    if path.startswith("/admin/v1/anomalies/"):
        place["id"] = choice(KNOWN["anomaly"], (place, case.body))
    if path.startswith("/admin/v1/leases/"):
        place["id"] = choice(KNOWN["lease"], (place, case.body))
    if path.endswith(("/freeze", "/thaw")):
        place["account"] = KNOWN["frozen"][0]
    if path.endswith("/resolve") and isinstance(case.body, dict):
        # Each has one decision, which may come again; the payment is credited once.
        number = KNOWN["anomaly"].index(place["id"])
        case.body["action"] = ["credit", "dismiss", "refund_at_provider"][number % 3 if number < 3 else 1]
        case.body.pop("account", None)


ALWAYS = {
    "amount": ["0.01", "1.00", "2.5", "7"],
    "price": ["0.01", "1.00", "2.5", "7"],
    "currency": ["CNY"],
    "credit_limit": ["0", "50"],
    "expires": ["2100-01-01T00:00:00Z"],
    "month": ["2026-11", "2026-01"],
    "from": ["2026-01-01"],
    "to": ["2026-01-31T12:00:00Z"],
    "since": ["2026-01-01T00:00:00Z"],
}
KEY_IN_BODY = [f"/internal/v1/billing/{endpoint}" for endpoint in ("deduct", "reserve", "refund")]
KEY_IN_BODY.append("/billing/v1/internal/deduct")


NUMBERS = itertools.count()


def key(body):
    return f"key-{zlib.crc32(repr(body).encode())}"


def choice(values, by):
    return values[zlib.crc32(repr(by).encode()) % len(values)]


def sensible(name, value):
    """Three of four values are replaced by one that exists, and all whose form no schema tells."""
    if isinstance(value, dict):
        return {inner: sensible(inner, each) for inner, each in value.items()}
    if isinstance(value, list):
        return [sensible(name, each) for each in value]
    if name in ALWAYS and value is not None:
        return choice(ALWAYS[name], value)
    if name in KNOWN and value is not None and zlib.crc32(repr(value).encode()) % 4:
        return choice(KNOWN[name], value)
    if name == "reason":
        # The limit is in bytes.
        return value[:250]
    if isinstance(value, float) and value.is_integer():
        # To JSON Schema 1.0 is an integer; to readers of integers it is none.
        value = int(value)
    # Schemathesis does not know the format uint64.
    return min(value, 2**64 - 1) if type(value) is int else value


def agree(path, body):
    """What holds between the fields of a body."""
    for name in list(body):
        body[name] = sensible(name, body[name])
    endpoint = path.rsplit("/", 1)[-1]
    if endpoint == "commit":
        # The known reservations are of units.
        body.pop("amount", None)
        body.update({"units": 1} if body.get("units") else {})
    if endpoint == "reserve" and body.get("amount") is not None:
        body.pop("units", None), body.pop("price", None)
    elif endpoint == "reserve":
        body["units"] = body.get("units") or 1
    if path == "/internal/v1/billing/refund":
        body.update({"units": 1} if body.get("units") else {})
        if body.get("record_id") is not None:
            body.pop("deduct_key", None)
        else:
            body.pop("record_id", None), body.pop("units", None)
            body |= {"deduct_key": body.get("deduct_key") or "known-1", "user_id": KNOWN["user_id"][0]}
    if endpoint == "sync":
        # A new process of the other gateway would end the leases that are to be recalled.
        body |= {"gateway": "fuzz-gw", "instance": hashlib.md5(repr(body).encode()).hexdigest(), "epoch": 0, "seq": 1}
        for want in body.get("wants") or []:
            want["units"] = max(want["units"], want["min"])
        for number, line in enumerate(body.get("journal") or []):
            line |= {"line": number, "used": min(line["used"], 1000)}
    if endpoint == "callback":
        order, payment = choice(list(zip(KNOWN["order_id"], KNOWN["payment_order_id"])), body)
        body |= {"order_id": order, "payment_order_id": payment, "amount": SETTINGS["paid"]}
        body["user_id"] = SETTINGS["user"]
    if endpoint == "prices":
        body["prices"] = {choice(KNOWN["service"], name): "0.002" for name in body.get("prices") or {}} or {"asset": "0.001"}
        body["effective"] = "now"
        body["accounts"] = {"ada": {"asset": "book", "passport": {"tiers": [{"up_to": 9, "price": "2"}, {"price": "1"}]}}}
    if path == "/admin/v1/orders/{order_id}/refund":
        # So that there is something left for the next one.
        body["amount"] = "0.01"
    if endpoint == "tokens":
        body["name"] = f"t-{next(NUMBERS)}"
    if endpoint == "recharge":
        body.pop("user_id", None), body.pop("return_url", None)
    if path in KEY_IN_BODY:
        body["idempotency_key"] = key(body)


# === how it was answered ===


@schemathesis.check
def come_again(context, response, case):
    """503 says when the same request is worth sending again, unless an operator must act first."""
    if response.status_code == 503 and response.json().get("code") != 190707:
        assert "retry-after" in response.headers, "503 without Retry-After"


TALLY = collections.defaultdict(collections.Counter)


@schemathesis.hook
def after_call(context, case, response):
    is_sound = case.meta is not None and case.meta.generation.mode.is_positive
    TALLY[case.operation.label]["sound" if is_sound else "unsound"] += 1
    TALLY[case.operation.label][f"{'sound ' if is_sound else ''}{response.status_code}"] += 1


@atexit.register
def write_tally():
    with open(SETTINGS["tally"], "w") as file:
        json.dump(TALLY, file)
