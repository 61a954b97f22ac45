import { Socket } from 'node:net'

/**
 * Loaded before a process of the quickstart (`node --import`): when whoever started it is gone, however it went,
 * the pipe of this descriptor ends and the process is told to stop. So nothing is ever left running.
 */
const fd = Number(process.env.QUICKSTART_LEASH_FD)
// Own children must not mistake their own descriptor of that number for a leash.
delete process.env.QUICKSTART_LEASH_FD
if (Number.isInteger(fd) && fd > 2) {
  const leash = new Socket({ fd, readable: true, writable: false })
  const end = (): void => void process.kill(process.pid, 'SIGTERM')
  leash.on('error', end)
  leash.on('close', end)
  leash.resume()
  leash.unref()
}
