/** The administration of the broker: the sign-in, then one view at a time. */

import { dropToken, onEnd } from "./admin/calls.js";
import { toasts } from "./admin/dialogs.js";
import { closeFrame, showFrame } from "./admin/frame.js";
import { finishScan, showSignIn } from "./admin/sign_in.js";
import { t } from "./admin/texts.js";
import { showLive } from "./admin/live.js";
import { showApps } from "./admin/apps.js";
import { showUsers } from "./admin/users.js";
import { showSessions } from "./admin/sessions.js";
import { showPool } from "./admin/pool.js";
import { showAudit } from "./admin/audit.js";
import { showKeys } from "./admin/keys.js";
import { showSystem } from "./admin/system.js";

const VIEWS = {
  live: showLive,
  apps: showApps,
  users: showUsers,
  sessions: showSessions,
  pool: showPool,
  audit: showAudit,
  keys: showKeys,
  system: showSystem,
};

const enter = () => showFrame(VIEWS, signOut);

function signOut(message = "") {
  dropToken();
  closeFrame();
  showSignIn(enter, message);
}

onEnd(() => signOut(t("ended")));
document.body.append(toasts);
try {
  if (await finishScan()) enter();
  else showSignIn(enter);
} catch (error) {
  showSignIn(enter, error.message);
}
