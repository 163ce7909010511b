import type { DefineComponent } from "vue";
import type { ScanLoginAttributes, ScanLoginBegun, ScanLoginError, ScanLoginToken } from "./index.js";

export type * from "./index.js";

export interface ScanLoginProps extends ScanLoginAttributes {
  /** Seconds after which a code that no phone has scanned is replaced. */
  refreshEvery?: number;
  /** `@login`. The widget shows "signing in" until the promise settles. */
  onLogin: (token: ScanLoginToken) => unknown;
  onBegun?: (begun: ScanLoginBegun) => void;
  onScanned?: () => void;
  onUnregistered?: () => void;
  onDenied?: () => void;
  onExpired?: () => void;
  onOffline?: () => void;
  onOnline?: () => void;
  onError?: (error: ScanLoginError) => void;
}

export declare const ScanLogin: DefineComponent<ScanLoginProps>;
