"""What others' libraries make of our signatures. Reads, on standard input, our actor as it was fetched and requests as they came over
the wire (`tests/it/clients.rs` makes them), and prints a row for each library and request. Each is to accept the genuine one and to
refuse it with one byte of the body, the path, the host or the date changed. Ends with 1 where one says otherwise.

apsig, bovine: ActivityPub. http-message-signatures: RFC 9421 in general. (Fedify: signatures.mjs.)
"""

import asyncio
import base64
import copy
import email.utils
import json
import logging
import re
import sys
from importlib.metadata import version
from types import SimpleNamespace

import apsig.draft
import apsig.proof
import http_message_signatures as rfc9421
from apsig.rfc9421 import RFC9421Verifier
from bovine.crypto import build_validate_http_signature_raw
from bovine.crypto.types import CryptographicIdentifier
from cryptography.hazmat.primitives.serialization import load_pem_public_key

# bovine tells its log of all that it refuses.
logging.disable(logging.CRITICAL)

asked = json.load(sys.stdin)
actor = asked["actor"]
key = actor["publicKey"]
wrong = []


def ask_apsig(request):
    arguments = key["publicKeyPem"], request["method"], request["origin"] + request["target"], request["headers"], request["body"]
    return apsig.draft.Verifier(*arguments).verify() == key["id"]


def ask_apsig_9421(request):
    public = load_pem_public_key(key["publicKeyPem"].encode())
    arguments = public, request["method"], request["target"], request["headers"]["host"], request["headers"], request["body"]
    return RFC9421Verifier(*arguments).verify() == key["id"]


async def key_of(key_id):
    return CryptographicIdentifier.from_public_key(key) if key_id == key["id"] else None


async def body_of(request):
    return request["body"]


def ask_bovine(request):
    url = request["origin"] + request["target"]
    check = build_validate_http_signature_raw(key_of)
    return asyncio.run(check(request["method"].lower(), url, request["headers"], lambda: body_of(request))) == actor["id"]


class OurKey(rfc9421.HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id):
        return load_pem_public_key(key["publicKeyPem"].encode()) if key_id == key["id"] else None

    def resolve_private_key(self, key_id):
        raise KeyError(key_id)


def ask_rfc9421(request):
    verifier = rfc9421.HTTPMessageVerifier(signature_algorithm=rfc9421.algorithms.RSA_V1_5_SHA256, key_resolver=OurKey())
    message = SimpleNamespace(
        method=request["method"], url=request["origin"] + request["target"], headers=dict(request["headers"])
    )
    try:
        verifier.verify(message, require_components=("@method", "@target-uri"), body=request["body"])
    except rfc9421.InvalidSignature:
        return False
    return True


def with_header(request, name, change):
    return {**request, "headers": {**request["headers"], name: change(request["headers"][name])}}


def later(date):
    return email.utils.formatdate(email.utils.parsedate_to_datetime(date).timestamp() + 1, usegmt=True)


def changed(request):
    """The request with one byte changed, in each of the places that its signature is to cover."""
    if request["body"]:
        yield "body", {**request, "body": bytes([request["body"][0] ^ 1]) + request["body"][1:]}
    yield "path", {**request, "target": request["target"][:-1] + "~"}
    elsewhere = with_header(request, "host", lambda host: host.replace("127.0.0.1", "127.0.0.2"))
    yield "host", {**elsewhere, "origin": request["origin"].replace("127.0.0.1", "127.0.0.2")}
    if "signature-input" in request["headers"]:
        bump = lambda value: re.sub(r"created=(\d+)", lambda at: f"created={int(at[1]) + 1}", value)
        yield "date", with_header(request, "signature-input", bump)
    else:
        yield "date", with_header(request, "date", later)


def row(library, what, verdicts, expected, note=""):
    """`verdicts`: of the genuine one and of each change, whether it was accepted."""
    says = "  ".join(f"{name}: {'accepted' if accepted else 'refused'}" for name, accepted in verdicts.items())
    surprise = "" if verdicts == expected else "   NOT AS IT SHOULD BE"
    print(f"{library:32} {what:26} {says}{surprise}{'   (' + note + ')' if note else ''}")
    if surprise:
        wrong.append((library, what))


def judge(library, what, request, verify, blind=(), note=""):
    """`blind`: the changes that it accepts, and is to."""
    cases = {"genuine": request, **dict(changed(request))}
    verdicts = {name: verify(copy.deepcopy(case)) for name, case in cases.items()}
    row(library, what, verdicts, {name: name == "genuine" or name in blind for name in cases}, note)


def is_no_judge(library, what, request, verify, why):
    """A library whose own fault it is that it accepts no such signature: it refuses the genuine one, or stumbles over it."""
    try:
        accepted = verify(copy.deepcopy(request))
    except AttributeError:
        accepted = False
    row(library, what, {"genuine": accepted}, {"genuine": False}, why)


requests = {one["what"]: {**one, "body": base64.b64decode(one["body"])} for one in asked["requests"]}
named = {name: f"{name} {version(name)}" for name in ("apsig", "bovine", "http-message-signatures")}
for name, verify in (("apsig", ask_apsig), ("bovine", ask_bovine)):
    judge(named[name], "draft-cavage, own", requests["own"], verify)
    judge(named[name], "draft-cavage, GET", requests["get"], verify)
    judge(named[name], "draft-cavage, shared", requests["shared"], verify, blind=("host",), note="names no host, so it holds at any")
judge(named["http-message-signatures"], "RFC 9421", requests["modern"], ask_rfc9421)
why = "its own fault: knows no @target-uri, and writes the parameters anew in an order of its own"
is_no_judge(named["apsig"], "RFC 9421", requests["modern"], ask_apsig_9421, why)
why = "its own fault: calls http-sf, of which it lets any 1.x be installed, as 1.0 was to be called; and knows no @target-uri"
is_no_judge(named["bovine"], "RFC 9421", requests["modern"], ask_bovine, why)

# The proof in our Announce (FEP-8b32), with the key that the actor lists for it.
announce = json.loads(requests["own"]["body"])
method = announce["proof"]["verificationMethod"]
multikey = next(one for one in actor["assertionMethod"] if one["id"] == method)


def apsig_proof(document):
    return apsig.proof.ProofVerifier(multikey["publicKeyMultibase"]).verify(document) == method


def bovine_proof(document):
    return CryptographicIdentifier.from_multikey(multikey).verify_document(document) == actor["id"]


other = {**announce, "object": announce["object"] + "0"}
dated = {**announce, "proof": {**announce["proof"], "created": "2026-01-01T00:00:00Z"}}
cases = ("genuine", announce), ("object", other), ("date", dated)
verdicts = {what: apsig_proof(copy.deepcopy(one)) for what, one in cases}
row(named["apsig"], "FEP-8b32 proof", verdicts, {"genuine": True, "object": False, "date": False})
why = "its own fault: hashes the proof's @context under the name field_context, which is that of its own attribute"
is_no_judge(named["bovine"], "FEP-8b32 proof", announce, bovine_proof, why)

sys.exit(bool(wrong))
