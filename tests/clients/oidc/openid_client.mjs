// openid-client, controlled by lines of JSON: {"do": name, ...} -> {"answer": ...} or {"error": ...}
// It verifies the signatures of ID tokens, with keys that it caches.
import * as client from 'openid-client'
import { createInterface } from 'node:readline'

const AUTH = {
  basic: client.ClientSecretBasic,
  post: client.ClientSecretPost,
  none: () => client.None(),
}

let config
let checks = {}

const acts = {
  async discover({ issuer, id, secret, auth }) {
    config = await client.discovery(new URL(issuer), id, undefined, AUTH[auth](secret), {
      execute: [client.allowInsecureRequests, client.enableNonRepudiationChecks],
    })
    return config.serverMetadata()
  },
  async authorize({ parameters, par }) {
    const verifier = client.randomPKCECodeVerifier()
    checks = {
      pkceCodeVerifier: verifier,
      expectedState: client.randomState(),
      expectedNonce: client.randomNonce(),
      idTokenExpected: true,
    }
    const all = {
      code_challenge: await client.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      state: checks.expectedState,
      nonce: checks.expectedNonce,
      ...parameters,
    }
    if (parameters.max_age !== undefined) checks.maxAge = Number(parameters.max_age)
    const build = par ? client.buildAuthorizationUrlWithPAR : client.buildAuthorizationUrl
    return (await build(config, all)).href
  },
  async callback({ url }) {
    const tokens = await client.authorizationCodeGrant(config, new URL(url), checks)
    return { ...tokens, claims: tokens.claims() }
  },
  async refresh({ token }) {
    const tokens = await client.refreshTokenGrant(config, token)
    return { ...tokens, claims: tokens.claims() }
  },
  userinfo: ({ token, subject }) => client.fetchUserInfo(config, token, subject),
  introspect: ({ token }) => client.tokenIntrospection(config, token),
  async revoke({ token }) {
    await client.tokenRevocation(config, token)
    return {}
  },
  async logout({ parameters }) {
    return client.buildEndSessionUrl(config, parameters).href
  },
  device: ({ parameters }) => client.initiateDeviceAuthorization(config, parameters),
  async poll({ device }) {
    const tokens = await client.pollDeviceAuthorizationGrant(config, device)
    return { ...tokens, claims: tokens.claims() }
  },
}

function describe(failure) {
  const { code, error, error_description, status, cause } = failure
  const challenge = Array.isArray(cause) ? cause[0]?.scheme : undefined
  return { name: failure.constructor.name, code, error, error_description, status, challenge, message: failure.message }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: act, ...fields } = JSON.parse(line)
  let message
  try {
    message = { answer: await acts[act](fields) }
  } catch (failure) {
    message = { error: describe(failure) }
  }
  process.stdout.write(JSON.stringify(message) + '\n')
}
