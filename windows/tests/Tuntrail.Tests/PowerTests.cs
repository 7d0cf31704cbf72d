using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tuntrail.Native;
using Xunit;

namespace Tuntrail.Tests
{
    /// <summary>What a client is told of sleep and power, by a system that is made up.</summary>
    public sealed class PowerTests
    {
        [LinuxFact]
        public void A_monitor_that_nobody_keeps_is_still_there_when_it_is_called()
        {
            using (Bench bench = new Bench(ClientTests.Server()))
            {
                FakePower power = new FakePower();
                WeakReference monitor = Forgotten(bench.Left.Client, power);
                GC.Collect();
                GC.WaitForPendingFinalizers();
                GC.Collect();
                // Windows would call what is no longer there, which ends the process.
                Assert.True(monitor.IsAlive);
                power.Call(PowerMonitor.SettingChange);
                ((IDisposable)monitor.Target).Dispose();
                Assert.Equal(0, power.Watching.Count);
            }
        }

        [LinuxFact]
        public void What_a_closed_client_throws_is_told_and_leaves_no_callback()
        {
            BlockingCollection<Exception> failures = new BlockingCollection<Exception>();
            FakePower power = new FakePower();
            using (Bench bench = new Bench(ClientTests.Server()))
            using (new PowerMonitor(bench.Left.Client, power, failures.Add))
            {
                power.Call(PowerMonitor.Suspend);
                power.Call(PowerMonitor.ResumeAutomatic);
                bench.Left.Client.Shutdown();
                power.Call(PowerMonitor.ResumeAutomatic);
                Exception told;
                Assert.True(failures.TryTake(out told, Bench.Limit));
                Assert.True(told is TuntrailException.Closed);
                Assert.Equal(0, failures.Count);
            }
        }

        [LinuxFact]
        public void A_registration_that_fails_takes_back_those_before_it()
        {
            FakePower power = new FakePower { FailingSettings = true };
            using (Bench bench = new Bench(ClientTests.Server()))
            {
                Assert.Throws<System.ComponentModel.Win32Exception>(() => new PowerMonitor(bench.Left.Client, power, null));
                Assert.Equal(0, power.Watching.Count);
            }
        }

        // A method of its own, so that no variable of the test holds the monitor.
        [MethodImpl(MethodImplOptions.NoInlining)]
        private static WeakReference Forgotten(Client client, FakePower power)
        {
            return new WeakReference(new PowerMonitor(client, power, null));
        }

        private sealed class FakePower : IPowerSystem
        {
            internal readonly HashSet<long> Watching = new HashSet<long>();
            internal bool FailingSettings;
            private IntPtr callback;
            private long last;

            internal void Call(uint type)
            {
                Functions.PowerCallback call =
                    (Functions.PowerCallback)Marshal.GetDelegateForFunctionPointer(callback, typeof(Functions.PowerCallback));
                Assert.Equal(0U, call(IntPtr.Zero, type, IntPtr.Zero));
            }

            public bool TryGetStatus(out SYSTEM_POWER_STATUS status)
            {
                status = new SYSTEM_POWER_STATUS { ACLineStatus = 1, BatteryFlag = 1, BatteryLifePercent = 50 };
                return true;
            }

            public uint WatchSleep(IntPtr watcher, out IntPtr registration)
            {
                callback = watcher;
                registration = new IntPtr(++last);
                Watching.Add(last);
                return 0;
            }

            public void StopSleep(IntPtr registration)
            {
                Assert.True(Watching.Remove(registration.ToInt64()));
            }

            public uint WatchSetting(Guid setting, IntPtr watcher, out IntPtr registration)
            {
                registration = IntPtr.Zero;
                return FailingSettings ? Functions.ErrorNotFound : WatchSleep(watcher, out registration);
            }

            public void StopSetting(IntPtr registration)
            {
                StopSleep(registration);
            }
        }
    }
}
