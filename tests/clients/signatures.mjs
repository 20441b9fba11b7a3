// What Fedify (ActivityPub, from npm) makes of our signatures: as signatures.py, which says what it reads and prints.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { DataIntegrityProof } from "@fedify/fedify/vocab";
import { verifyProof, verifyRequest } from "@fedify/fedify/sig";

// Fedify is for Node.js 22 and later; this is all that it lacks on 20.
ArrayBuffer.prototype.transfer ??= function (length = this.byteLength) {
  const moved = new ArrayBuffer(length);
  new Uint8Array(moved).set(new Uint8Array(this, 0, Math.min(length, this.byteLength)));
  return moved;
};

const { actor, requests } = JSON.parse(readFileSync(0, "utf8"));
const folder = dirname(fileURLToPath(import.meta.url));
const library = `Fedify ${JSON.parse(readFileSync(join(folder, "node_modules/@fedify/fedify/package.json"))).version}`;
let wrong = false;

// Our actor is all there is to fetch; the contexts that our documents name, Fedify has with it.
async function documentLoader(url) {
  if (url.split("#")[0] !== actor.id) throw new Error(`nobody is at ${url}`);
  return { contextUrl: null, documentUrl: url, document: actor };
}

async function accepts({ method, origin, target, headers, body }) {
  const request = new Request(origin + target, { method, headers, body: method === "GET" ? undefined : body });
  // It takes the profile by itself for the one that the header lines show.
  const key = await verifyRequest(request, { documentLoader });
  return key?.id?.href === actor.publicKey.id;
}

function* changed(request) {
  const headers = (more) => ({ ...request, headers: { ...request.headers, ...more } });
  if (request.body.length > 0) {
    const body = Buffer.from(request.body);
    body[0] ^= 1;
    yield ["body", { ...request, body }];
  }
  yield ["path", { ...request, target: `${request.target.slice(0, -1)}~` }];
  const elsewhere = (text) => text.replace("127.0.0.1", "127.0.0.2");
  yield ["host", { ...headers({ host: elsewhere(request.headers.host) }), origin: elsewhere(request.origin) }];
  const input = request.headers["signature-input"];
  yield ["date", input
    ? headers({ "signature-input": input.replace(/created=(\d+)/, (_, at) => `created=${Number(at) + 1}`) })
    : headers({ date: new Date(Date.parse(request.headers.date) + 1000).toUTCString() })];
}

function row(what, verdicts, blind = [], note = "") {
  const says = verdicts.map(([name, accepted]) => `${name}: ${accepted ? "accepted" : "refused"}`).join("  ");
  const right = verdicts.every(([name, accepted]) => accepted === (name === "genuine" || blind.includes(name)));
  wrong ||= !right;
  console.log(`${library.padEnd(32)} ${what.padEnd(26)} ${says}${right ? "" : "   NOT AS IT SHOULD BE"}${note && `   (${note})`}`);
}

async function judge(what, request, blind, note) {
  const verdicts = [["genuine", await accepts(request)]];
  for (const [name, other] of changed(request)) verdicts.push([name, await accepts(other)]);
  row(what, verdicts, blind, note);
}

const of = Object.fromEntries(requests.map((one) => [one.what, { ...one, body: Buffer.from(one.body, "base64") }]));
await judge("draft-cavage, own", of.own);
await judge("draft-cavage, GET", of.get);
await judge("draft-cavage, shared", of.shared, ["host"], "names no host, so it holds at any");
await judge("RFC 9421", of.modern);

const announce = JSON.parse(of.own.body);
const other = { ...announce, object: `${announce.object}0` };
const dated = { ...announce, proof: { ...announce.proof, created: "2026-01-01T00:00:00Z" } };
const verdicts = [];
for (const [name, document] of [["genuine", announce], ["object", other], ["date", dated]]) {
  const proof = await DataIntegrityProof.fromJsonLd(document.proof, { documentLoader });
  verdicts.push([name, (await verifyProof(document, proof, { documentLoader })) != null]);
}
row("FEP-8b32 proof", verdicts);
process.exit(wrong ? 1 : 0);
