/** The errors of this package. A `message` names the problem, and contains no secret. */

export class ScanLoginError extends Error {
  /** The status of the HTTP response to send. */
  status = 500;

  get name() {
    return this.constructor.name;
  }
}

/** The token is malformed, forged, expired, or for another audience. */
export class InvalidToken extends ScanLoginError {
  status = 401;
}

/** The broker has not published the key that the token names. */
export class UnknownKey extends InvalidToken {}

/** The token has been used before. */
export class SpentToken extends InvalidToken {}

/** The request is not from the broker, too old, or malformed. */
export class InvalidWebhook extends ScanLoginError {
  status = 401;
}

/** The broker's keys cannot be fetched now. The token may be valid. */
export class BrokerUnavailable extends ScanLoginError {
  status = 503;
}
