// A single-page app with oidc-client-ts. Tests call the functions of `window.app`.
const base = location.origin
const given = new URLSearchParams(location.search)
sessionStorage.issuer ??= given.get('issuer')
sessionStorage.scope ??= given.get('scope')
const manager = new oidc.UserManager({
  authority: sessionStorage.issuer,
  client_id: 'spa',
  redirect_uri: `${base}/spa.html`,
  popup_redirect_uri: `${base}/spa.html`,
  post_logout_redirect_uri: `${base}/spa.html`,
  scope: sessionStorage.scope,
  loadUserInfo: true,
})

const show = (text) => (document.querySelector('#state').textContent = text)
const describe = (user) => user && { ...user.profile, refreshed: user.refresh_token, access: user.access_token }

window.app = {
  signIn: () => manager.signinRedirect(),
  popup: async () => describe(await manager.signinPopup()),
  user: async () => describe(await manager.getUser()),
  // With a refresh token; without one, by `prompt=none` in an iframe.
  refresh: async () => describe(await manager.signinSilent()),
  refusal: () => manager.signinSilent().then(() => null, ({ error }) => error),
  signOut: () => manager.signoutRedirect(),
}

async function start() {
  if (parent !== window) return manager.signinSilentCallback()
  if (given.has('code') && opener) return manager.signinPopupCallback()
  if (given.has('code')) await manager.signinRedirectCallback()
  show((await manager.getUser()) ? 'signed in' : 'signed out')
}

start().catch((error) => show(`failed: ${error.message}`))
