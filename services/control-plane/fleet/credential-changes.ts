/** The credential of one person at one server changed: gateways drop what they hold of it. */
export interface CredentialChange {
  readonly issuer: string
  readonly subject: string
  readonly serverId: string
}

export interface CredentialChanges {
  publish(change: CredentialChange): void
  /** The function it gives back ends it. */
  subscribe(listener: (change: CredentialChange) => void): () => void
}

export function createCredentialChanges(): CredentialChanges {
  const listeners = new Set<(change: CredentialChange) => void>()
  return {
    publish: (change) => {
      for (const listener of listeners) listener(change)
    },
    subscribe: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  }
}
