using System;
using System.ServiceProcess;

namespace ExampleVpn
{
    internal static class Program
    {
        private static int Main(string[] arguments)
        {
            if (arguments.Length >= 2 && arguments[0] == "ask")
            {
                // What the user's interface does: ExampleVpnService.exe ask upload "the call broke off".
                Console.WriteLine(ServicePipe.Ask(string.Join(" ", arguments, 1, arguments.Length - 1)));
                return 0;
            }
            if (Environment.UserInteractive)
            {
                Console.WriteLine("This is a Windows service. As administrator: sc.exe create " + VpnService.Name
                    + " binPath= \"\\\"<full path of this program>\\\"\" start= auto");
                return 1;
            }
            ServiceBase.Run(new VpnService());
            return 0;
        }
    }
}
