import { inspect } from 'node:util'

/** A secret that prints as dots wherever it is printed, logged or serialized; `reveal` is easy to grep for. */
export class Secret {
  readonly #value: string

  constructor(value: string) {
    this.#value = value
  }

  reveal(): string {
    return this.#value
  }

  toString(): string {
    return '•••'
  }

  toJSON(): string {
    return '•••'
  }

  [inspect.custom](): string {
    return '•••'
  }
}

/** Where a secret of the configuration comes from; exactly one of the three is given. */
export interface SecretSource {
  file?: string | undefined
  env?: string | undefined
  value?: string | undefined
}

/** Reads a secret; throws an Error that says what to do and never quotes the secret. */
export type SecretReader = (source: SecretSource) => Secret
