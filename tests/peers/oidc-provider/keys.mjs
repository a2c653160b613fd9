// Keys that live as long as the process: the server's, its clients', and those of an issuer of assertions that
// it trusts.

import { generateKeyPair as callback } from 'node:crypto';
import { promisify } from 'node:util';

const generateKeyPair = promisify(callback);

// `pem` goes to the test: the private keys of the clients by algorithm, and that of the issuer.
export async function signingKeys() {
  const [server, rsa, ec, ed, issuer] = await Promise.all([
    generateKeyPair('rsa', { modulusLength: 2048 }),
    generateKeyPair('rsa', { modulusLength: 2048 }),
    generateKeyPair('ec', { namedCurve: 'P-256' }),
    generateKeyPair('ed25519'),
    generateKeyPair('ec', { namedCurve: 'P-256' }),
  ]);
  const clients = { RS256: rsa, PS256: rsa, ES256: ec, EdDSA: ed };
  const pem = Object.entries({ ...clients, issuer }).map(([name, { privateKey }]) => [
    name,
    privateKey.export({ type: 'pkcs8', format: 'pem' }),
  ]);
  return {
    server: [server.privateKey.export({ format: 'jwk' })],
    clients: Object.entries(clients).map(([alg, key]) => ({
      alg,
      jwk: { ...key.publicKey.export({ format: 'jwk' }), alg, use: 'sig' },
    })),
    issuer: issuer.publicKey,
    pem: Object.fromEntries(pem),
  };
}
