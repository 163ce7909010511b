// A site with Auth.js for Express. The configuration is JSON in the variable SITE.
import { ExpressAuth, getSession } from '@auth/express'
import express from 'express'

const { port, issuer, id, secret } = JSON.parse(process.env.SITE)
const config = {
  providers: [{ id: 'scan', name: 'Scan', type: 'oidc', issuer, clientId: id, clientSecret: secret }],
  secret: 'a secret of this test with many characters',
  trustHost: true,
}
const site = express()
site.use('/auth', ExpressAuth(config))
site.get('/', async (request, response) => response.json(await getSession(request, config)))
site.listen(port, '127.0.0.1', () => console.log('ready'))
