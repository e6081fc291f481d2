// What tests/browser/test_webtransport.py has a browser do. Every check takes { url, hash, ... } and gives back JSON.
"use strict";

const encode = (text) => new TextEncoder().encode(text);
const decode = (bytes) => new TextDecoder().decode(bytes);
const sleep = (milliseconds) => new Promise((wake) => setTimeout(wake, milliseconds));

function session({ url, hash, options }) {
  const pinned = { serverCertificateHashes: [{ algorithm: "sha-256", value: new Uint8Array(hash) }] };
  return new WebTransport(url, { ...pinned, ...options });
}

async function readAll(readable) {
  const chunks = [];
  let size = 0;
  const reader = readable.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    chunks.push(value);
    size += value.length;
  }
  const whole = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.length;
  }
  return whole;
}

async function writeAll(writable, bytes) {
  const writer = writable.getWriter();
  await writer.write(bytes);
  await writer.close();
}

async function echoed(stream, bytes) {
  const [, answer] = await Promise.all([writeAll(stream.writable, bytes), readAll(stream.readable)]);
  return answer;
}

// Bytes that differ from one seed to the next and do not repeat with a period that a buffer size could hide.
function pattern(size, seed) {
  const bytes = new Uint8Array(size);
  let state = (seed + 1) * 2654435761;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

// How a promise ended, as JSON.
async function outcome(promise) {
  try {
    const value = await promise;
    return { ok: true, value: value && "closeCode" in value ? { code: value.closeCode, reason: value.reason } : null };
  } catch (error) {
    return {
      ok: false,
      name: error?.constructor?.name ?? String(error),
      source: error?.source ?? null,
      code: error?.streamErrorCode ?? null,
      message: error?.message ?? String(error),
    };
  }
}

// A stream to a route of the test server that takes one line of JSON as its order.
async function order(transport, what) {
  const stream = await transport.createBidirectionalStream();
  const writer = stream.writable.getWriter();
  await writer.write(encode(JSON.stringify(what) + "\n"));
  return { stream, writer };
}

const checks = {
  // Datagrams may be lost, even here: send each again until its echo is back.
  async datagramEcho({ count, size, ...target }) {
    const transport = session(target);
    await transport.ready;
    const missing = new Map();
    for (let i = 0; i < count; i++) missing.set(i, pattern(size, i));
    let intact = 0;
    const reader = transport.datagrams.readable.getReader();
    const receiving = (async () => {
      while (missing.size > 0) {
        const { value, done } = await reader.read();
        if (done) return;
        for (const [key, sent] of missing) {
          if (!same(sent, value)) continue;
          missing.delete(key);
          intact++;
          break;
        }
      }
    })();
    const writer = transport.datagrams.writable.getWriter();
    for (let round = 0; round < 40 && missing.size > 0; round++) {
      for (const bytes of [...missing.values()]) await writer.write(bytes);
      await Promise.race([receiving, sleep(100)]);
    }
    transport.close();
    return { intact };
  },

  // As large as the browser can; it need not come back, since the way back may take less. A few, in case one is lost.
  async largestDatagram(target) {
    const transport = session(target);
    await transport.ready;
    const size = transport.datagrams.maxDatagramSize;
    const writer = transport.datagrams.writable.getWriter();
    for (let i = 0; i < 5; i++) {
      await writer.write(pattern(size, i));
      await sleep(20);
    }
    transport.close();
    return { size };
  },

  async bidirectionalEcho({ size, ...target }) {
    const transport = session(target);
    await transport.ready;
    const sent = pattern(size, 7);
    const answer = await echoed(await transport.createBidirectionalStream(), sent);
    transport.close();
    return { size: answer.length, intact: same(sent, answer) };
  },

  async manyStreams({ count, size, ...target }) {
    const transport = session(target);
    await transport.ready;
    const streams = await Promise.all(Array.from({ length: count }, () => transport.createBidirectionalStream()));
    const results = await Promise.all(
      streams.map(async (stream, i) => {
        const sent = pattern(size, i);
        return same(sent, await echoed(stream, sent));
      }),
    );
    transport.close();
    return { intact: results.filter(Boolean).length };
  },

  // One stream there for each text, and one stream of the server back for each.
  async unidirectionalEcho({ texts, ...target }) {
    const transport = session(target);
    await transport.ready;
    for (const text of texts) await writeAll(await transport.createUnidirectionalStream(), encode(text));
    const answers = [];
    const incoming = transport.incomingUnidirectionalStreams.getReader();
    while (answers.length < texts.length) answers.push(decode(await readAll((await incoming.read()).value)));
    transport.close();
    return answers.sort();
  },

  async serverStreams({ count, ...target }) {
    const transport = session(target);
    await transport.ready;
    const collect = async (streams, read) => {
      const reader = streams.getReader();
      const texts = [];
      while (texts.length < count) texts.push(await read((await reader.read()).value));
      return texts.sort();
    };
    const [bidirectional, unidirectional] = await Promise.all([
      collect(transport.incomingBidirectionalStreams, async (stream) => {
        const text = decode(await readAll(stream.readable));
        await writeAll(stream.writable, encode(`answer to ${text}`));
        return text;
      }),
      collect(transport.incomingUnidirectionalStreams, async (stream) => decode(await readAll(stream))),
    ]);
    return { bidirectional, unidirectional };
  },

  async closedByServer({ code, reason, ...target }) {
    const transport = session(target);
    await transport.ready;
    const { writer } = await order(transport, { code, reason });
    writer.closed.catch(() => {});
    return outcome(transport.closed);
  },

  async closedByPage({ info, ...target }) {
    const transport = session(target);
    await transport.ready;
    if (info) transport.close({ closeCode: info.code, reason: info.reason });
    else transport.close();
    return outcome(transport.closed);
  },

  async connectOnly(target) {
    const transport = session(target);
    const [ready, closed] = await Promise.all([outcome(transport.ready), outcome(transport.closed)]);
    return { ready, closed };
  },

  // Leaves the session open; the test takes the page away from under it.
  async connectAndStay(target) {
    window.kept = session(target);
    await window.kept.ready;
    return true;
  },

  async protocol(target) {
    const transport = session(target);
    await transport.ready;
    const chosen = transport.protocol ?? null;
    transport.close();
    return chosen;
  },

  // The server resets the direction that the page reads, and says so on another stream; if `late`, the page waits for
  // that before it reads.
  async resetByServer({ code, late, ...target }) {
    const transport = session(target);
    await transport.ready;
    const { stream } = await order(transport, { do: "reset", code });
    if (late) {
      await readAll((await transport.incomingUnidirectionalStreams.getReader().read()).value);
      await sleep(50);
    }
    const seen = await outcome(readAll(stream.readable));
    transport.close();
    return seen;
  },

  // The server stops the direction that the page writes.
  async stoppedByServer({ code, ...target }) {
    const transport = session(target);
    await transport.ready;
    const { writer } = await order(transport, { do: "stop", code });
    const seen = await outcome(writer.closed);
    transport.close();
    return seen;
  },

  // The page aborts what it writes, and in the next check cancels what it reads; the server records the codes. It says
  // something first: a stream that is reset too early reaches the server without the header that tells its session.
  async resetByPage({ code, ...target }) {
    const transport = session(target);
    await transport.ready;
    const { stream, writer } = await order(transport, { do: "record" });
    await stream.readable.getReader().read();
    const reason = new WebTransportError({ message: "given up", streamErrorCode: code });
    await writer.abort(reason);
    await sleep(100);
    transport.close();
    return { code: reason.streamErrorCode };
  },

  async stoppedByPage({ code, ...target }) {
    const transport = session(target);
    await transport.ready;
    const { stream } = await order(transport, { do: "record" });
    const reader = stream.readable.getReader();
    await reader.read();
    const reason = new WebTransportError({ message: "no more", streamErrorCode: code });
    await reader.cancel(reason);
    await sleep(100);
    transport.close();
    return { code: reason.streamErrorCode };
  },

  async twoSessions({ text, ...target }) {
    const transports = [session(target), session(target)];
    await Promise.all(transports.map((transport) => transport.ready));
    const answers = await Promise.all(
      transports.map(async (transport, i) =>
        decode(await echoed(await transport.createBidirectionalStream(), encode(`${text} ${i}`))),
      ),
    );
    for (const transport of transports) transport.close();
    return answers;
  },

  async slowReader({ size, ...target }) {
    const transport = session(target);
    await transport.ready;
    const sent = pattern(size, 3);
    const stream = await transport.createBidirectionalStream();
    const writing = writeAll(stream.writable, sent);
    await sleep(300);
    const answer = await readAll(stream.readable);
    await writing;
    transport.close();
    return { intact: same(sent, answer) };
  },
};
