// A site with Auth.js for Express. The configuration is JSON in the variable SITE.
// Auth.js stores no tokens and does not refresh: its guide has both in the callback `jwt`.
import { ExpressAuth, getSession } from '@auth/express'
import express from 'express'

const { port, issuer, id, secret } = JSON.parse(process.env.SITE)

// Returns null, which ends the session, if the sign-in has ended.
async function refreshed(token) {
  const response = await fetch(`${issuer}/oauth/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${id}:${secret}`)}` },
    body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: token.refresh }),
  })
  const answer = await response.json()
  if (answer.error === 'invalid_grant') return null
  if (!response.ok) throw new Error(JSON.stringify(answer))
  return withTokens(token, answer)
}

const withTokens = (token, answer) => ({ ...token, access: answer.access_token, refresh: answer.refresh_token })

const config = {
  providers: [
    {
      id: 'scan',
      name: 'Scan',
      type: 'oidc',
      issuer,
      clientId: id,
      clientSecret: secret,
      authorization: { params: { scope: 'openid profile offline_access' } },
    },
  ],
  secret: 'a secret of this test with many characters',
  trustHost: true,
  callbacks: {
    // An update of the session refreshes, also if the access token is still valid.
    async jwt({ token, account, trigger }) {
      if (trigger === 'update') return refreshed(token)
      return account ? withTokens(token, account) : token
    },
    session: ({ session, token }) => ({ ...session, access: token.access, refresh: token.refresh }),
  },
}
const site = express()
site.use('/auth', ExpressAuth(config))
site.get('/', async (request, response) => response.json(await getSession(request, config)))
site.listen(port, '127.0.0.1', () => console.log('ready'))
