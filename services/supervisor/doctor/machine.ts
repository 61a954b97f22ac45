import { ask, jsonOf, wordsOf } from './http.ts'
import { failed, ok, type Step, skipped, warning } from './step.ts'

/** What runs on this machine: its agent controller, the way to the control plane, the clock, the gateway itself. */
export const machineSteps: readonly Step[] = [
  {
    name: 'agent controller',
    needs: [],
    async run({ config }) {
      const url = new URL('/health', config.agentControllerUrl)
      const advice =
        'systemctl status aembit_agent_controller; AEMBIT_AGENT_CONTROLLER_URL names where it listens'
      try {
        const answer = await ask(url.href)
        const state = String(jsonOf(answer)?.status ?? `HTTP ${answer.status}`)
        if (answer.status === 200) return ok(state)
        return failed(
          `${url.origin} says ${state}`,
          state === 'Unregistered'
            ? 'it was never registered or has been revoked: make a device code and start it with AEMBIT_DEVICE_CODE'
            : advice,
        )
      } catch (error) {
        return failed(`${url.origin}: ${wordsOf(error)}`, advice)
      }
    },
  },
  {
    name: 'control plane',
    needs: [],
    async run(patient) {
      const { controlPlaneUrl: url } = patient.config
      try {
        const asked = url.startsWith('unix:') ? url : new URL('/', url).href
        const answer = await ask(asked, { ca: patient.ca })
        const theirs = Date.parse(answer.headers.date ?? '')
        if (Number.isFinite(theirs))
          patient.serverTime = { of: 'the control plane', theirs, ours: patient.now() }
        if (answer.status >= 500)
          return failed(`${url} answers HTTP ${answer.status}`, 'systemctl status aembit_control_plane')
        const skewed = patient.running?.processes.find(({ role }) => role === 'sync')?.stats
        if (skewed?.control_plane === 'away')
          return failed(
            `${url} answers, but sync is not connected: ${skewed.last_error}`,
            'is the gateway enrolled there? errors.md explains the code',
          )
        return ok(`${url} answers`)
      } catch (error) {
        return failed(
          `${url}: ${wordsOf(error)}`,
          'systemctl status aembit_control_plane; outbound 443 must be open; AEMBIT_CONTROL_PLANE_URL names it',
        )
      }
    },
  },
  {
    name: 'clock',
    needs: [],
    async run({ serverTime }) {
      if (!serverTime) return skipped('nobody told the time')
      const secs = Math.round((serverTime.ours - serverTime.theirs) / 1000)
      const text = `${Math.abs(secs)} s ${secs > 0 ? 'ahead of' : 'behind'} ${serverTime.of}`
      const advice = 'timedatectl set-ntp true; tokens are refused as expired or not valid yet'
      // Access tokens are allowed 5 s; the Date header counts whole seconds.
      if (Math.abs(secs) > 60) return failed(text, advice)
      return Math.abs(secs) > 6 ? warning(text, advice) : ok(`within a few seconds of ${serverTime.of}`)
    },
  },
  // After what it depends on: the first that fails is to be the cause.
  {
    name: 'gateway',
    needs: [],
    async run({ running, silence }) {
      if (!running)
        return failed(
          `no gateway answers here: ${silence}`,
          'systemctl start aembit_mcp_gateway; why it ended: journalctl --namespace aembit_mcp_gateway -n 50',
        )
      const { ready, reasons, warnings, version } = running
      if (!ready)
        return failed(
          `runs, but is not ready: ${reasons.join('; ')}`,
          'aembit_mcp_gateway status shows its processes; journalctl --namespace aembit_mcp_gateway -p err',
        )
      if (warnings.length > 0)
        return warning(
          `ready, version ${version}: ${warnings.join('; ')}`,
          'aembit_mcp_gateway status has more',
        )
      return ok(`ready, version ${version}`)
    },
  },
]
