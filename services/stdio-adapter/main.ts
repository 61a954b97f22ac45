import { runChild } from '../../shared/ipc/child.ts'
import { version } from '../../shared/version.ts'
import { startAdapter } from './adapter.ts'

runChild('stdio-adapter', version, startAdapter)
