import { parseDomFromString } from '@node-saml/node-saml/lib/xml.js'

/** An element of a parsed document, as far as it is read here. */
export interface Element {
  readonly localName: string
  readonly namespaceURI: string | null
  readonly textContent: string | null
  readonly parentNode: unknown
  readonly childNodes: ArrayLike<{ readonly nodeType: number }>
  getAttribute(name: string): string
  hasAttribute(name: string): boolean
}

export const ns = {
  protocol: 'urn:oasis:names:tc:SAML:2.0:protocol',
  assertion: 'urn:oasis:names:tc:SAML:2.0:assertion',
  metadata: 'urn:oasis:names:tc:SAML:2.0:metadata',
  signature: 'http://www.w3.org/2000/09/xmldsig#',
} as const

const elementNode = 1
const textNode = 3
const maxElements = 20_000
const maxDepth = 64

/**
 * Parses XML that somebody else wrote. Refused besides what is not well-formed: every `<!`, which is a document type,
 * an entity, a comment or CDATA, and processing instructions. None of them has a place in SAML (saml-core §1.3 and
 * xmldsig need none), and each has been the way in somewhere: external entities, entity bombs, names cut short by a
 * comment. Throws Error with a reason for the log.
 */
export async function parseXml(source: string): Promise<Element> {
  const xml = source.replace(/^\ufeff?\s*<\?xml [^<>]{0,200}\?>/, '')
  if (xml.includes('<!')) throw new Error('holds a document type, a comment or CDATA')
  if (xml.includes('<?')) throw new Error('holds a processing instruction')
  // Before the parser: its work and its stack grow with these.
  if (xml.split('<').length > 2 * maxElements) throw new Error(`has more than ${maxElements} elements`)
  let depth = 0
  for (const [tag] of xml.matchAll(/<[^>]*>/g)) {
    if (tag.startsWith('</')) depth -= 1
    else if (!tag.endsWith('/>')) depth += 1
    if (depth > maxDepth) throw new Error(`is nested deeper than ${maxDepth}`)
  }
  const { documentElement } = (await parseDomFromString(xml)) as unknown as {
    documentElement: Element | null
  }
  if (!documentElement) throw new Error('holds no element')
  return documentElement
}

/** Children of one name; `elements` below goes all the way down. */
export function children(parent: Element, namespace: string, name: string): Element[] {
  return childElements(parent).filter((child) => child.localName === name && child.namespaceURI === namespace)
}

/** The one child of a name, or undefined; throws where there are several. */
export function onlyChild(parent: Element, namespace: string, name: string): Element | undefined {
  const found = children(parent, namespace, name)
  if (found.length > 1) throw new Error(`${parent.localName} has ${found.length} of ${name}`)
  return found[0]
}

/** The element and everything below it. */
export function elements(root: Element): Element[] {
  const found: Element[] = []
  const open = [root]
  for (let next = open.pop(); next; next = open.pop()) {
    found.push(next)
    open.push(...childElements(next).reverse())
  }
  return found
}

/** The text of an element that holds nothing else; undefined where it holds elements. */
export function textOf(element: Element): string | undefined {
  const plain = Array.from(element.childNodes).every(({ nodeType }) => nodeType === textNode)
  return plain ? (element.textContent ?? '').trim() : undefined
}

/** An attribute's value; undefined where it is absent or empty. */
export function attribute(element: Element, name: string): string | undefined {
  return element.getAttribute(name) || undefined
}

function childElements(parent: Element): Element[] {
  return Array.from(parent.childNodes).filter(
    (node): node is Element & { nodeType: number } => node.nodeType === elementNode,
  )
}
