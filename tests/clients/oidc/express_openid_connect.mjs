// A site with express-openid-connect. The configuration is JSON in the variable SITE.
import express from 'express'
import openid from 'express-openid-connect'

const { port, issuer, id, secret } = JSON.parse(process.env.SITE)
const ended = new Map()
const store = {
  get: (key, done) => done(null, ended.get(key)),
  set: (key, value, done) => done(null, void ended.set(key, value)),
  destroy: (key, done) => done(null, void ended.delete(key)),
}
const site = express()
site.use(
  openid.auth({
    issuerBaseURL: issuer,
    baseURL: `http://127.0.0.1:${port}`,
    clientID: id,
    clientSecret: secret,
    secret: 'a secret of this test with many characters',
    authorizationParams: { response_type: 'code', scope: 'openid profile offline_access' },
    idpLogout: true,
    backchannelLogout: { store },
  }),
)
site.get('/', openid.requiresAuth(), (request, response) => response.json(request.oidc.user))
site.get('/tokens', openid.requiresAuth(), ({ oidc }, response) =>
  response.json({ access: oidc.accessToken.access_token, refresh: oidc.refreshToken }),
)
site.get('/refresh', openid.requiresAuth(), async ({ oidc }, response) => {
  await oidc.accessToken.refresh()
  response.redirect('/tokens')
})
site.listen(port, '127.0.0.1', () => console.log('ready'))
