// An act is refused, with an HTTP status and an error word.
export class Refused extends Error {
  constructor(status, error) {
    super(error);
    this.status = status;
  }
}

// The body of an error response. An unexpected error is printed.
export function errorBody(error) {
  if (!(error instanceof Refused)) console.error(error);
  return { error: error.message };
}
