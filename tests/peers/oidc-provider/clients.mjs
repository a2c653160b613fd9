// A client for each way to authenticate, named after it, which may use every grant; and a few odd ones.

import { X509Certificate } from 'node:crypto';
import { JWT_BEARER, TOKEN_EXCHANGE } from './grants.mjs';

const SECRET = 's3cret-0123456789-0123456789-0123456789';

const user = [
  'authorization_code',
  'refresh_token',
  'urn:ietf:params:oauth:grant-type:device_code',
];
const machine = ['client_credentials', JWT_BEARER, TOKEN_EXCHANGE];

export function clients(keys, tls) {
  const basic = { token_endpoint_auth_method: 'client_secret_basic', client_secret: SECRET };
  return [
    client('basic', basic),
    client('post', { ...basic, token_endpoint_auth_method: 'client_secret_post' }),
    client('client_secret_jwt', { ...basic, token_endpoint_auth_method: 'client_secret_jwt' }),
    ...keys.clients.map(({ alg, jwk }) =>
      client(`private_key_jwt-${alg}`, {
        token_endpoint_auth_method: 'private_key_jwt',
        token_endpoint_auth_signing_alg: alg,
        jwks: { keys: [jwk] },
      }),
    ),
    client('none', {
      token_endpoint_auth_method: 'none',
      grant_types: [...user, JWT_BEARER, TOKEN_EXCHANGE],
    }),
    ...byCertificate(tls),
    client('weird:id/+ %41', { ...basic, client_secret: `p@ss:w%rd+&= /?~${SECRET}` }),
    client('expired', { ...basic, client_secret_expires_at: 1 }),
    client('users-only', { ...basic, grant_types: user }),
  ];
}

function client(client_id, metadata) {
  return {
    client_id,
    application_type: 'native', // so that a redirect may lead to any port of the loopback interface
    redirect_uris: ['http://127.0.0.1/callback'],
    response_types: ['code'],
    grant_types: [...user, ...machine],
    ...metadata,
  };
}

function byCertificate(tls) {
  const certificate = new X509Certificate(tls.self_signed);
  const jwk = certificate.publicKey.export({ format: 'jwk' });
  const x5c = [certificate.raw.toString('base64')];
  return [
    client('tls_client_auth', {
      token_endpoint_auth_method: 'tls_client_auth',
      tls_client_auth_san_dns: 'client.test',
      tls_client_certificate_bound_access_tokens: true,
    }),
    client('self_signed_tls_client_auth', {
      token_endpoint_auth_method: 'self_signed_tls_client_auth',
      jwks: { keys: [{ ...jwk, x5c, use: 'sig' }] },
      tls_client_certificate_bound_access_tokens: true,
    }),
  ];
}
