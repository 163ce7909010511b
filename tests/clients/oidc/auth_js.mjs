// A site with Auth.js for Express. The configuration is JSON in the variable SITE.
// Auth.js stores no tokens and does not refresh: its guide has both in the callback `jwt`.
import { ExpressAuth, getSession } from '@auth/express'
import express from 'express'

const { port, issuer, id, secret } = JSON.parse(process.env.SITE)

async function refreshed(refreshToken) {
  const response = await fetch(`${issuer}/oauth/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${id}:${secret}`)}` },
    body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: refreshToken }),
  })
  if (!response.ok) throw new Error(await response.text())
  return response.json()
}

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
      const answer = trigger === 'update' ? await refreshed(token.refresh) : account
      return answer ? { ...token, access: answer.access_token, refresh: answer.refresh_token } : token
    },
    session: ({ session, token }) => ({ ...session, access: token.access, refresh: token.refresh }),
  },
}
const site = express()
site.use('/auth', ExpressAuth(config))
site.get('/', async (request, response) => response.json(await getSession(request, config)))
site.listen(port, '127.0.0.1', () => console.log('ready'))
