import { LRUCache } from 'lru-cache'

interface Entry<T> {
  readonly owner: string
  readonly value: T
}

/** Values in memory, the longest unused go first. Several may have one owner: found by key, dropped by owner. */
export class OwnedCache<T extends object> {
  readonly #entries: LRUCache<string, Entry<T>>
  readonly #keys = new Map<string, Set<string>>()

  constructor(max: number) {
    this.#entries = new LRUCache({ max, dispose: ({ owner }, key) => this.#forget(owner, key) })
  }

  get size(): number {
    return this.#entries.size
  }

  owners(): IterableIterator<string> {
    return this.#keys.keys()
  }

  get(key: string): T | undefined {
    return this.#entries.get(key)?.value
  }

  set(owner: string, key: string, value: T): void {
    this.#entries.set(key, { owner, value })
    const keys = this.#keys.get(owner)
    if (keys) keys.add(key)
    else this.#keys.set(owner, new Set([key]))
  }

  delete(key: string): void {
    this.#entries.delete(key)
  }

  drop(owner: string): void {
    for (const key of [...(this.#keys.get(owner) ?? [])]) this.#entries.delete(key)
  }

  clear(): void {
    this.#entries.clear()
  }

  #forget(owner: string, key: string): void {
    const keys = this.#keys.get(owner)
    keys?.delete(key)
    if (keys?.size === 0) this.#keys.delete(owner)
  }
}
