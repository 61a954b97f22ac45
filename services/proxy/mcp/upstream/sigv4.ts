import { AwsV4Signer } from 'aws4fetch'
import type { CredentialAnswer } from '../../../../shared/wire/credential.ts'
import type { Headers, SignableRequest } from './http.ts'

export type SigningKeys = Extract<CredentialAnswer, { kind: 'aws-sigv4' }>

/** Signs requests with temporary keys (AWS Signature Version 4). The derived key is kept for the day it is good for. */
export function signer(keys: SigningKeys): (request: SignableRequest) => Promise<Headers> {
  const { accessKeyId, secretAccessKey, sessionToken, region, service } = keys
  const cache = new Map<string, ArrayBuffer>()
  return async ({ method, url, headers, body }) => {
    const signed = await new AwsV4Signer({
      method,
      url,
      // Without the presentation, which is a symbol.
      headers: Object.fromEntries(Object.entries(headers)),
      ...(body === null ? {} : { body }),
      accessKeyId,
      secretAccessKey,
      sessionToken,
      region,
      service,
      cache,
    }).sign()
    const all = Object.fromEntries((signed.headers as unknown as globalThis.Headers).entries())
    // Written by the HTTP client from the URL, which is what was signed.
    delete all.host
    return all
  }
}
