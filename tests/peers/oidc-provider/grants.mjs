// Grants that oidc-provider leaves to its users: token exchange (RFC 8693) and JWT bearer (RFC 7523).

import { jwtVerify } from 'jose';
import { errors } from 'oidc-provider';
import { buildTokenResponse, resolveRequestedResources } from 'oidc-provider/lib/helpers/grants.js';

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
export const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';

const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const TRUSTED_ISSUER = 'https://issuer.test';

export function register(provider, keys) {
  const exchange = ['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type'];
  const target = ['requested_token_type', 'audience', 'resource', 'scope'];
  provider.registerGrantType(
    TOKEN_EXCHANGE,
    async (ctx) => {
      const { subject_token, subject_token_type, scope } = ctx.oidc.params;
      if (subject_token_type !== ACCESS_TOKEN) throw new errors.InvalidRequest('subject_token_type');
      const subject =
        (await provider.AccessToken.find(subject_token)) ??
        (await provider.ClientCredentials.find(subject_token));
      if (!subject) throw new errors.InvalidGrant('subject_token');
      await issue(provider, ctx, scope ?? subject.scope, { issuedTokenType: ACCESS_TOKEN });
    },
    [...exchange, ...target],
    ['audience', 'resource'],
  );

  provider.registerGrantType(
    JWT_BEARER,
    async (ctx) => {
      const { assertion, scope } = ctx.oidc.params;
      const audience = [provider.issuer, `${provider.issuer}/token`];
      try {
        await jwtVerify(assertion, keys.issuer, { issuer: TRUSTED_ISSUER, audience });
      } catch (cause) {
        throw new errors.InvalidGrant({ cause });
      }
      await issue(provider, ctx, scope);
    },
    ['assertion', 'resource', 'scope'],
    ['resource'],
  );
}

async function issue(provider, ctx, scope, more) {
  const token = new provider.ClientCredentials({ client: ctx.oidc.client, scope });
  const [resource] = await resolveRequestedResources(provider, ctx);
  if (resource) token.resourceServer = resource;
  const accessToken = await token.save();
  ctx.body = buildTokenResponse(provider, {
    accessToken,
    expiresIn: token.expiration,
    scope: token.scope,
    tokenType: token.tokenType,
    ...more,
  });
}
