// The certified `oidc-provider` at Whop's paths, on a loopback port of its own. Holds everything in memory.
//
// A thin front does what differs at Whop: it takes token requests as JSON, and refuses all else with 415. The rest is
// decided by `oidc-provider` alone; each of its refusals of a token request is a line of JSON on stdout.
//
// First line on stdout: {"listening": "http://127.0.0.1:PORT"}, which is the issuer.
// Arguments: the confidential client's secret, then the redirect URIs of both clients.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const [secret, ...redirectUris] = process.argv.slice(2);

const ACCOUNTS = {
  user_alice: {
    name: 'Alice Übung',
    preferred_username: 'alice',
    picture: 'https://img.example/alice.png',
    email: 'alice@example.com',
    email_verified: true,
  },
  user_bob: { preferred_username: 'bob', email: 'bob@example.com', email_verified: false },
};

const say = (fact) => process.stdout.write(`${JSON.stringify(fact)}\n`);

function makeClient(client_id, authentication) {
  return {
    client_id,
    redirect_uris: redirectUris,
    response_types: ['code'],
    grant_types: ['authorization_code'],
    id_token_signed_response_alg: 'ES256',
    ...authentication,
  };
}

function makeProvider(issuer) {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const provider = new Provider(issuer, {
    clients: [
      makeClient('app_confidential', { client_secret: secret, token_endpoint_auth_method: 'client_secret_post' }),
      makeClient('app_public', { token_endpoint_auth_method: 'none' }),
    ],
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256' }] },
    enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
    routes: {
      authorization: '/oauth/authorize',
      token: '/oauth/token',
      userinfo: '/oauth/userinfo',
      jwks: '/.well-known/jwks.json',
    },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    features: { devInteractions: { enabled: false } },
    pkce: { required: () => true, methods: ['S256'] },
    claims: {
      openid: ['sub'],
      profile: ['name', 'preferred_username', 'picture'],
      email: ['email', 'email_verified'],
    },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    ttl: { AccessToken: 3600, AuthorizationCode: 600, Grant: 3600, IdToken: 3600, Interaction: 600, Session: 3600 },
    findAccount: (ctx, sub) => ACCOUNTS[sub] && { accountId: sub, claims: () => ({ sub, ...ACCOUNTS[sub] }) },
    // The refusals of the authorize page, as text: tests read them.
    renderError: (ctx, out) => {
      ctx.type = 'json';
      ctx.body = out;
    },
  });
  provider.on('grant.error', (ctx, error) => say({ error: error.error, because: error.error_detail ?? error.message }));
  provider.on('server_error', (ctx, error) => console.error(error));
  return provider;
}

async function readBody(request) {
  let body = '';
  for await (const chunk of request.setEncoding('utf8')) body += chunk;
  return body;
}

/** Sign in and consent in one step: `account` is who, or nobody, who declines. */
async function answerInteraction(provider, request, response) {
  const { params } = await provider.interactionDetails(request, response);
  const accountId = new URLSearchParams(await readBody(request)).get('account');
  if (!accountId) {
    const declined = { error: 'access_denied', error_description: 'declined on the page' };
    return provider.interactionFinished(request, response, declined);
  }
  const grant = new provider.Grant({ accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const result = { login: { accountId }, consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result);
}

/** Turn a token request in JSON into the form that OAuth 2.0 has; return whether it was JSON. */
async function translateTokenRequest(request) {
  if (request.headers['content-type'] !== 'application/json') return false;
  request.body = JSON.parse(await readBody(request));
  request.headers['content-type'] = 'application/x-www-form-urlencoded';
  return true;
}

async function front(provider, request, response) {
  const { pathname } = new URL(request.url, provider.issuer);
  if (request.method === 'POST' && pathname.startsWith('/interaction/')) {
    return answerInteraction(provider, request, response);
  }
  if (pathname === '/oauth/token' && !(await translateTokenRequest(request))) {
    return response.writeHead(415).end();
  }
  return provider.callback()(request, response);
}

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = makeProvider(issuer);
  server.on('request', (request, response) => {
    front(provider, request, response).catch((error) => {
      console.error(error);
      response.writeHead(500).end();
    });
  });
  say({ listening: issuer });
});
