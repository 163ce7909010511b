// oidc-provider, a certified OpenID Provider, for the conformance tests.
//
// node provider.mjs PORT. The login page accepts each name with any password. Clients register
// themselves at /reg. POST /clock?ahead=SECONDS sets by how much the provider's clock is ahead.
import { createServer } from 'node:http'
import Provider from 'oidc-provider'

const port = Number(process.argv[2])
const issuer = `http://127.0.0.1:${port}`

const now = Date.now
let ahead = 0
Date.now = () => now() + ahead * 1000

const person = (id) => ({
  sub: id,
  name: 'Ada Lovelace',
  nickname: 'Ada',
  preferred_username: id,
  picture: 'https://directory.example/ada.png',
  locale: 'en-GB',
  zoneinfo: 'Europe/London',
  email: `${id}@directory.example`,
  email_verified: true,
  address: { formatted: 'London' },
  phone_number: '+441234567890',
  phone_number_verified: false,
})

const provider = new Provider(issuer, {
  claims: {
    openid: ['sub'],
    profile: ['name', 'nickname', 'preferred_username', 'picture', 'locale', 'zoneinfo'],
    email: ['email', 'email_verified'],
    address: ['address'],
    phone: ['phone_number', 'phone_number_verified'],
  },
  cookies: { keys: ['a key of the tests'], long: { sameSite: 'none' } },
  enableHttpPostMethods: true,
  features: {
    backchannelLogout: { enabled: true },
    claimsParameter: { enabled: true },
    registration: { enabled: true },
    revocation: { enabled: true },
  },
  // Without its protection against requests to this machine, where the tests listen.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  findAccount: (context, id) => ({ accountId: id, claims: () => person(id) }),
  pkce: { required: () => false },
})

const answer = provider.callback()

createServer((request, response) => {
  const url = new URL(request.url, issuer)
  if (url.pathname !== '/clock') return answer(request, response)
  ahead = Number(url.searchParams.get('ahead'))
  response.writeHead(204).end()
}).listen(port, '127.0.0.1')
