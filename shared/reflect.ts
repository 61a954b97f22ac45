/**
 * @peculiar/x509 comes with tsyringe, which wants the metadata part of Reflect (a proposal that never became part of
 * the language) before it is loaded. This is as much of it as tsyringe calls, and what the package `reflect-metadata`,
 * which comes with acme-client, asks of one that was there before it.
 */
const store = new WeakMap<object, Map<unknown, unknown>>()

const metadata = {
  defineMetadata: (key: unknown, value: unknown, target: object): void => {
    store.set(target, (store.get(target) ?? new Map()).set(key, value))
  },
  getOwnMetadata: (key: unknown, target: object): unknown => store.get(target)?.get(key),
  getOwnMetadataKeys: (target: object): unknown[] => [...(store.get(target)?.keys() ?? [])],
  hasOwnMetadata: (key: unknown, target: object): boolean => store.get(target)?.has(key) ?? false,
  deleteMetadata: (key: unknown, target: object): boolean => store.get(target)?.delete(key) ?? false,
  getMetadata: (key: unknown, target: object): unknown => {
    for (let at: object | null = target; at; at = Reflect.getPrototypeOf(at)) {
      if (store.get(at)?.has(key)) return store.get(at)?.get(key)
    }
    return undefined
  },
}
for (const [name, value] of Object.entries(metadata)) {
  if (!(name in Reflect)) Object.defineProperty(Reflect, name, { value, configurable: true, writable: true })
}
