// quiche, through @matrixai/quic, as an endpoint over HTTP/0.9: told by its environment what to do, as ours is.
//
// Its server always asks for a Retry. It offers no choice of cipher suites, no key update and no migration, and speaks
// version 1 alone.

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const CASES = ['handshake', 'transfer', 'retry', 'multiconnect'];
const UNSUPPORTED = 127;
const env = process.env;
const here = path.dirname(new URL(import.meta.url).pathname);
const home = path.join(here, '..', '..', '.venv-peers', 'quiche', 'package.json');

if (!CASES.includes(env.TESTCASE)) process.exit(UNSUPPORTED);

const resolved = path.join(path.dirname(home), 'node_modules', '@matrixai');
const load = (name) => import(pathToFileURL(path.join(resolved, name, 'dist', 'index.js')).href);
const { QUICClient, QUICServer, events } = await load('quic');
const { default: Logger, LogLevel, StreamHandler } = await load('logger');
const logger = new Logger('quiche', LogLevel.WARN, [new StreamHandler()]);

const shared = {
  applicationProtos: ['hq-interop'],
  maxIdleTimeout: 30000,
  logKeys: env.SSLKEYLOGFILE,
  verifyPeer: false,
};

async function readAll(readable) {
  const parts = [];
  for await (const part of readable) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

async function runClient() {
  const urls = env.REQUESTS.split(' ').map((url) => new URL(url));
  const groups = env.TESTCASE === 'multiconnect' ? urls.map((url) => [url]) : [urls];
  for (const group of groups) await download(group);
}

async function download(urls) {
  const randomBytes = async (data) => void crypto.randomFillSync(Buffer.from(data));
  const client = await QUICClient.createQUICClient({
    host: urls[0].hostname.replace(/[[\]]/g, ''),
    port: Number(urls[0].port),
    localHost: urls[0].hostname.includes(':') ? '::1' : '127.0.0.1',
    crypto: { ops: { randomBytes } },
    config: shared,
    logger,
  });
  const fetch = async (url) => {
    const stream = client.connection.newStream();
    const writer = stream.writable.getWriter();
    await writer.write(Buffer.from(`GET ${url.pathname}\r\n`));
    await writer.close();
    fs.writeFileSync(path.join(env.DOWNLOADS, path.basename(url.pathname)), await readAll(stream.readable));
  };
  // A stream beyond the peer's limit is an error here that the connection does not recover from: so few at a time.
  const waiting = [...urls];
  const worker = async () => {
    while (waiting.length > 0) await fetch(waiting.shift());
  };
  await Promise.all(Array.from({ length: Math.min(20, urls.length) }, worker));
  await client.destroy({ force: true });
}

async function answer(stream) {
  const request = (await readAll(stream.readable)).toString().trim();
  const writer = stream.writable.getWriter();
  const data = fs.readFileSync(path.join(env.WWW, path.basename(request.split(' ')[1])));
  for (let at = 0; at < data.length; at += 65536) await writer.write(data.subarray(at, at + 65536));
  await writer.close();
}

async function runServer() {
  const key = crypto.randomBytes(32);
  const sign = async (k, data) => crypto.createHmac('sha256', Buffer.from(k)).update(Buffer.from(data)).digest();
  const server = new QUICServer({
    crypto: {
      key: key.buffer.slice(key.byteOffset, key.byteOffset + key.byteLength),
      ops: {
        sign: async (k, data) => {
          const made = await sign(k, data);
          return made.buffer.slice(made.byteOffset, made.byteOffset + made.byteLength);
        },
        verify: async (k, data, signature) => (await sign(k, data)).equals(Buffer.from(signature)),
      },
    },
    config: {
      ...shared,
      key: fs.readFileSync(path.join(env.CERTS, 'priv.key'), 'utf8'),
      cert: fs.readFileSync(path.join(env.CERTS, 'cert.pem'), 'utf8'),
    },
    logger,
  });
  server.addEventListener(events.EventQUICServerConnection.name, (event) => {
    event.detail.addEventListener(events.EventQUICConnectionStream.name, (one) => {
      answer(one.detail).catch((error) => console.error(String(error)));
    });
  });
  await server.start({ host: env.HOST, port: Number(env.PORT) });
}

process.on('unhandledRejection', (error) => console.error('unhandled', String(error)));
process.on('SIGTERM', () => process.exit(0));
if (env.ROLE === 'server') {
  await runServer();
} else {
  try {
    await runClient();
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}
