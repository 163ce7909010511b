import type { ScanLogin } from ".";

export interface UploadedFile {
  /** Store this: the URL is valid for `expires_in` seconds. */
  file_id: string;
  /** Bytes. */
  size: number;
  media_type: string;
  /** Hexadecimal. */
  sha256: string;
  url: string;
  expires_in: number;
}

export interface DescribedFile extends UploadedFile {
  purpose?: string;
  name?: string;
  owner: { openid: string; subject?: string };
  /** Unix time in seconds. */
  created_at: number;
}

export interface UploadOptions {
  /** A word for your server, of letters, digits and `._-`. */
  purpose?: string;
  /** Of the content, in hexadecimal. The broker compares it. */
  sha256?: string;
}

/** Upload a file of the phone, for example of `wx.chooseMedia`. phone: default `configured()`. */
export declare function upload(filePath: string, options?: UploadOptions, phone?: ScanLogin): Promise<UploadedFile>;

/** Download one of the person's files. Resolves with the path of a temporary file. */
export declare function download(file_id: string, phone?: ScanLogin): Promise<string>;

/** Describe one of the person's files, with a fresh URL. */
export declare function describe(file_id: string, phone?: ScanLogin): Promise<DescribedFile>;

/** Delete one of the person's files. */
export declare function remove(file_id: string, phone?: ScanLogin): Promise<null>;
