// The other side of test_deno.py: WebTransport in Deno, which runs on quinn. Prints one JSON object a line.
//
//   deno run -A --unstable-net webtransport.js server CERTFILE KEYFILE        echoes until its input ends
//   deno run -A --unstable-net webtransport.js client PORT CERTIFICATE_HASH   says what came back (hash in hex)

const say = (facts) => console.log(JSON.stringify(facts));
const text = (bytes) => new TextDecoder().decode(bytes);
const bytes = (string) => new TextEncoder().encode(string);
const large = Uint8Array.from({ length: 100000 }, (_, i) => i % 256);

// In Deno 2.9 nobody learns that a stream has ended, also between two Denos. So both sides echo what they have, and the
// one who asked counts.
async function exchange(stream, data) {
  const writer = stream.writable.getWriter();
  const reader = stream.readable.getReader();
  const writing = writer.write(data);
  const chunks = [];
  for (let got = 0; got < data.length;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    got += value.length;
  }
  await writing;
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

async function serve(certfile, keyfile) {
  const endpoint = new Deno.QuicEndpoint({ hostname: "127.0.0.1", port: 0 });
  const listener = endpoint.listen({
    cert: await Deno.readTextFile(certfile),
    key: await Deno.readTextFile(keyfile),
    alpnProtocols: ["h3"],
  });
  say({ event: "listening", port: endpoint.addr.port });
  (async () => {
    while (true) answer(await listener.accept());
  })();
  for await (const _ of Deno.stdin.readable);
  Deno.exit(0);
}

async function answer(connection) {
  const session = await Deno.upgradeWebTransport(connection);
  await session.ready;
  say({ event: "session", url: session.url });
  (async () => {
    const writer = session.datagrams.writable.getWriter();
    for await (const datagram of session.datagrams.readable) await writer.write(datagram);
  })().catch(() => {});
  (async () => {
    for await (const stream of session.incomingBidirectionalStreams) {
      stream.readable.pipeTo(stream.writable).catch(() => {});
    }
  })().catch(() => {});
  const info = await session.closed.catch((error) => ({ reason: String(error) }));
  say({ event: "session closed", code: info?.closeCode, reason: info?.reason });
}

async function ask(port, hash) {
  const value = Uint8Array.from(hash.match(/../g).map((pair) => parseInt(pair, 16)));
  const session = new WebTransport(`https://127.0.0.1:${port}/echo`, {
    serverCertificateHashes: [{ algorithm: "sha-256", value }],
  });
  await session.ready;
  say({ event: "session" });
  const datagrams = session.datagrams.readable.getReader();
  await session.datagrams.writable.getWriter().write(bytes("datagram"));
  say({ event: "datagram", data: text((await datagrams.read()).value) });
  const stream = await session.createBidirectionalStream();
  say({ event: "stream", data: text(await exchange(stream, bytes("stream"))) });
  const answer = await exchange(await session.createBidirectionalStream(), large);
  say({ event: "large", same: answer.length === large.length && answer.every((b, i) => b === large[i]) });
  session.close({ closeCode: 7, reason: "bye" });
  say({ event: "done" });
  Deno.exit(0);
}

const [role, ...rest] = Deno.args;
await (role === "server" ? serve(...rest) : ask(...rest));
