import type { DetailedHTMLProps, ForwardRefExoticComponent, HTMLAttributes, RefAttributes } from "react";
import type {
  ScanLoginAttributes, ScanLoginBegun, ScanLoginElement, ScanLoginError, ScanLoginToken, ScanLoginTokenEvent,
} from "./index.js";

export type * from "./index.js";

type ElementProps = Omit<HTMLAttributes<ScanLoginElement>, "onError" | "lang">;

export interface ScanLoginProps extends ElementProps, ScanLoginAttributes {
  /** Gets the token. The widget shows "signing in" until the promise settles. */
  onLogin: (token: ScanLoginToken) => unknown;
  /** Seconds after which a code that no phone has scanned is replaced. */
  refreshEvery?: number;
  onBegun?: (begun: ScanLoginBegun) => void;
  onScanned?: () => void;
  onUnregistered?: () => void;
  onDenied?: () => void;
  onExpired?: () => void;
  onOffline?: () => void;
  onOnline?: () => void;
  onError?: (error: ScanLoginError) => void;
}

export declare const ScanLogin: ForwardRefExoticComponent<ScanLoginProps & RefAttributes<ScanLoginElement>>;

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "scan-login": DetailedHTMLProps<HTMLAttributes<ScanLoginElement>, ScanLoginElement> &
        ScanLoginAttributes & {
          refresh_every?: number;
          /** Called with the event, which has the fields of the token. React 19 or later. */
          onlogin?: (event: ScanLoginTokenEvent) => unknown;
        };
    }
  }
}
