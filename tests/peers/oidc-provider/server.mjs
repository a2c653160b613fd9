// An authorization server for tests: oidc-provider on free ports of the loopback interface.
//
// The first line of stdin brings the certificates: {"ca", "certificate", "key", "self_signed"}. When it
// listens it prints one line: {"issuer", "mtls", "control", "keys"}. It ends with its stdin.

import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import { createInterface } from 'node:readline';
import { normalize } from 'oidc-provider/lib/helpers/user_codes.js';
import { allow, authorize } from './browser.mjs';
import { signingKeys } from './keys.mjs';
import { provider } from './provider.mjs';

const stdin = createInterface({ input: process.stdin }).on('close', () => process.exit());
const tls = JSON.parse((await once(stdin, 'line'))[0]);
console.info = console.warn = () => {}; // oidc-provider's advice for production

const log = [];
const settings = { rotate: true, ttl: 3600 };
const keys = await signingKeys();

const plain = await listen(http.createServer());
const secure = await listen(
  https.createServer({
    ...{ ca: tls.ca, cert: tls.certificate, key: tls.key },
    ...{ requestCert: true, rejectUnauthorized: false },
  }),
);
const issuer = `http://${plain.host}`;
const mtls = `https://${secure.host}`;
const server = provider(issuer, { keys, settings, log, tls, mtls });
for (const listener of [plain, secure]) listener.server.on('request', server.callback());

const control = await listen(http.createServer(answer));
console.log(
  JSON.stringify({ issuer, mtls, control: `http://${control.host}`, keys: keys.pem }),
);

async function listen(server) {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return { server, host: `127.0.0.1:${server.address().port}` };
}

// Has a login's code, or a device's, be as old as it can get.
async function expire({ code, user_code }) {
  const found = code
    ? await server.AuthorizationCode.find(code)
    : await server.DeviceCode.findByUserCode(normalize(user_code));
  const { payload } = await found.getValueAndPayload();
  await found.adapter.upsert(found.jti, { ...payload, exp: payload.iat }, 60);
  return {};
}

async function answer(request, response) {
  const actions = {
    '/log': () => log,
    '/configure': (changes) => Object.assign(settings, changes),
    '/authorize': authorize,
    '/allow': allow,
    '/expire': expire,
  };
  let body = '';
  for await (const chunk of request) body += chunk;
  try {
    const result = await actions[request.url](JSON.parse(body));
    response.end(JSON.stringify(result));
  } catch (error) {
    response.writeHead(500).end(`${error.stack}`);
  }
}
