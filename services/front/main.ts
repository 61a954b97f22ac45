import { runChild } from '../../shared/ipc/child.ts'
import { version } from '../../shared/version.ts'
import { startFront } from './front.ts'

runChild('front', version, startFront)
