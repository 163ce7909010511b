// A single-page app with oidc-client-ts. Tests call the functions of `window.app`.
const base = location.origin
const manager = new oidc.UserManager({
  authority: new URLSearchParams(location.search).get('issuer') ?? sessionStorage.issuer,
  client_id: 'spa',
  redirect_uri: `${base}/spa.html`,
  popup_redirect_uri: `${base}/spa.html`,
  post_logout_redirect_uri: `${base}/spa.html`,
  scope: 'openid profile offline_access',
  loadUserInfo: true,
})
sessionStorage.issuer = manager.settings.authority

const show = (text) => (document.querySelector('#state').textContent = text)
const describe = (user) => user && { ...user.profile, refreshed: user.refresh_token, access: user.access_token }

window.app = {
  signIn: () => manager.signinRedirect(),
  popup: async () => describe(await manager.signinPopup()),
  user: async () => describe(await manager.getUser()),
  refresh: async () => describe(await manager.signinSilent()),
  signOut: () => manager.signoutRedirect(),
}

async function start() {
  const parameters = new URLSearchParams(location.search)
  if (parameters.has('code') && opener) return manager.signinPopupCallback()
  if (parameters.has('code')) await manager.signinRedirectCallback()
  show((await manager.getUser()) ? 'signed in' : 'signed out')
}

start().catch((error) => show(`failed: ${error.message}`))
