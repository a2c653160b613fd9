// oidc-provider, configured.

import { Provider, errors } from 'oidc-provider';
import { clients } from './clients.mjs';
import { register } from './grants.mjs';

export function provider(issuer, { keys, settings, log, tls, mtls }) {
  const ttl = () => settings.ttl;
  const provider = new Provider(issuer, {
    clients: clients(keys, tls),
    jwks: { keys: keys.server },
    scopes: ['openid', 'offline_access', 'api:read', 'api:write'],
    clientAuthMethods: [
      'client_secret_basic',
      'client_secret_post',
      'client_secret_jwt',
      'private_key_jwt',
      'none',
      'tls_client_auth',
      'self_signed_tls_client_auth',
    ],
    discovery: {
      // RFC 8705 §5: where the same server asks for certificates.
      mtls_endpoint_aliases: {
        token_endpoint: `${mtls}/token`,
        revocation_endpoint: `${mtls}/token/revocation`,
        device_authorization_endpoint: `${mtls}/device/auth`,
      },
    },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      resourceIndicators: { enabled: true, getResourceServerInfo: resource(ttl) },
      mTLS,
    },
    findAccount: (ctx, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    expiresWithSession: () => false,
    issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: () => settings.rotate,
    ttl: { AccessToken: ttl, ClientCredentials: ttl },
  });
  register(provider, keys);
  keep(log, provider);
  return provider;
}

// https://api.test/jwt is served with JWTs, the rest of https://api.test with opaque tokens. There is no other
// resource.
function resource(ttl) {
  return (ctx, indicator) => {
    const { origin, pathname } = new URL(indicator);
    if (origin !== 'https://api.test') throw new errors.InvalidTarget();
    return {
      scope: 'api:read api:write',
      accessTokenTTL: ttl(),
      accessTokenFormat: pathname === '/jwt' ? 'jwt' : 'opaque',
    };
  };
}

const mTLS = {
  enabled: true,
  certificateBoundAccessTokens: true,
  selfSignedTlsClientAuth: true,
  tlsClientAuth: true,
  getCertificate: (ctx) => ctx.req.socket.getPeerX509Certificate?.(), // over TLS
  certificateAuthorized: (ctx) => ctx.req.socket.authorized,
  certificateSubjectMatches: (ctx, property, expected) =>
    property === 'tls_client_auth_san_dns' &&
    ctx.req.socket.getPeerX509Certificate().subjectAltName === `DNS:${expected}`,
};

// Every token request, as the server understood it.
function keep(log, provider) {
  const entry = (ctx, status, error) => ({
    client: ctx.oidc.client?.clientId ?? null,
    grant: ctx.oidc.params?.grant_type ?? null,
    status,
    error,
  });
  provider.on('grant.success', (ctx) => log.push(entry(ctx, ctx.status, null)));
  provider.on('grant.error', (ctx, { status, error }) => log.push(entry(ctx, status, error)));
  provider.on('server_error', (ctx, error) => console.error(error));
}
