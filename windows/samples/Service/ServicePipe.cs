using System;
using System.IO;
using System.IO.Pipes;
using System.Security;
using System.Security.AccessControl;
using System.Security.Principal;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace ExampleVpn
{
    /// <summary>
    /// The named pipe by which the user's interface asks the service, and which nobody else can use: not over the network, not by another
    /// service. Waits for who comes without a thread of its own.
    /// </summary>
    internal sealed class ServicePipe : IDisposable
    {
        private const string Name = "ExampleVpn.Service";
        /// <summary>One interface, its administrator's twin, and two that are just going.</summary>
        private const int MaxConnections = 4;
        /// <summary>Each place makes its next instance before it closes the one before: so somebody of the service always has the name.</summary>
        private const int MaxInstances = 2 * MaxConnections;
        /// <summary>An interface sends and reads at once; who does not, only holds a place.</summary>
        private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);
        /// <summary>Before trying again what Windows has refused.</summary>
        private static readonly TimeSpan Pause = TimeSpan.FromSeconds(10);

        private readonly Commands commands;
        private readonly Action<Exception> failed;
        private readonly CancellationTokenSource stopping = new CancellationTokenSource();

        /// <summary>Begins to serve. Throws if somebody else has the name: then the service doesn't start.</summary>
        /// <param name="commands">Does what is asked.</param>
        /// <param name="failed">Is told of what should not happen. Serving goes on.</param>
        internal ServicePipe(Commands commands, Action<Exception> failed)
        {
            this.commands = commands;
            this.failed = failed;
            // What this needs must be loaded before it is needed for somebody else, with whose rights no file might be opened.
            using (WindowsIdentity own = WindowsIdentity.GetCurrent())
            {
                HasAdministratorsRole(own);
            }
            for (int i = 0; i < MaxConnections; i++)
            {
                NamedPipeServerStream pipe = Open(i == 0);
                Task.Run(() => Serve(pipe));
            }
        }

        public void Dispose()
        {
            stopping.Cancel();
        }

        /// <summary>Who may do what: the system and administrators everything, who sits at the machine may ask.</summary>
        internal static PipeSecurity Rules()
        {
            PipeSecurity rules = new PipeSecurity();
            SecurityIdentifier system = new SecurityIdentifier(WellKnownSidType.LocalSystemSid, null);
            rules.SetOwner(system);
            rules.AddAccessRule(new PipeAccessRule(
                new SecurityIdentifier(WellKnownSidType.NetworkSid, null), PipeAccessRights.FullControl, AccessControlType.Deny));
            rules.AddAccessRule(new PipeAccessRule(system, PipeAccessRights.FullControl, AccessControlType.Allow));
            rules.AddAccessRule(new PipeAccessRule(
                new SecurityIdentifier(WellKnownSidType.BuiltinAdministratorsSid, null),
                PipeAccessRights.FullControl, AccessControlType.Allow));
            // Not CreateNewInstance: nobody else can offer this pipe.
            rules.AddAccessRule(new PipeAccessRule(
                new SecurityIdentifier(WellKnownSidType.InteractiveSid, null), PipeAccessRights.ReadWrite, AccessControlType.Allow));
            return rules;
        }

        /// <summary>In the user's interface: asks the service. Blocks; an upload takes as long as the network does.</summary>
        internal static string Ask(string line)
        {
            using (NamedPipeClientStream pipe = new NamedPipeClientStream(
                ".", Name, PipeDirection.InOut, PipeOptions.None, TokenImpersonationLevel.Identification))
            {
                pipe.Connect(5000);
                // Before a word is said: whoever is first may take the name while the service does not run.
                if (!IsSystems(pipe))
                {
                    throw new SecurityException("the pipe is not the service's");
                }
                byte[] question = Encoding.UTF8.GetBytes(line + "\n");
                pipe.Write(question, 0, question.Length);
                return new StreamReader(pipe, Encoding.UTF8).ReadLine();
            }
        }

        /// <summary>One place: serves who comes, one after the other, whatever goes wrong with one of them.</summary>
        private async Task Serve(NamedPipeServerStream first)
        {
            NamedPipeServerStream next = first;
            while (next != null)
            {
                // Closed last: that also ends a read of somebody who was too slow.
                using (NamedPipeServerStream pipe = next)
                {
                    try
                    {
                        await pipe.WaitForConnectionAsync(stopping.Token).ConfigureAwait(false);
                        await Conversation.Serve(pipe, () => IsAdministrator(pipe), commands.Answer, Limit, stopping.Token)
                            .ConfigureAwait(false);
                    }
                    catch (IOException)
                    {
                        // Who asked has gone, or said too much.
                    }
                    catch (OperationCanceledException)
                    {
                        // Too slow, or the service stops.
                    }
                    catch (Exception error)
                    {
                        failed(error);
                    }
                    next = await OpenNext().ConfigureAwait(false);
                }
            }
        }

        /// <summary>Null when the service stops.</summary>
        private async Task<NamedPipeServerStream> OpenNext()
        {
            while (!stopping.IsCancellationRequested)
            {
                try
                {
                    return Open(false);
                }
                catch (Exception error)
                {
                    failed(error);
                }
                // Ends early, without an error, when the service stops.
                await Task.WhenAny(Task.Delay(Pause, stopping.Token)).ConfigureAwait(false);
            }
            return null;
        }

        /// <summary>Whether the other side has elevated rights; without them an administrator's token doesn't have the role.</summary>
        private static bool IsAdministrator(NamedPipeServerStream pipe)
        {
            WindowsIdentity identity = null;
            try
            {
                // Only this with the other side's rights.
                pipe.RunAsClient(() => identity = WindowsIdentity.GetCurrent(true));
            }
            catch (SecurityException)
            {
                // Who doesn't say who they are, is nobody.
                return false;
            }
            using (identity)
            {
                return identity != null && HasAdministratorsRole(identity);
            }
        }

        private static bool HasAdministratorsRole(WindowsIdentity identity)
        {
            return new WindowsPrincipal(identity).IsInRole(WindowsBuiltInRole.Administrator);
        }

        private static NamedPipeServerStream Open(bool isFirst)
        {
#if NETFRAMEWORK
            NamedPipeServerStream pipe = new NamedPipeServerStream(Name, PipeDirection.InOut, MaxInstances,
                PipeTransmissionMode.Byte, PipeOptions.Asynchronous, 0, 0, Rules());
            // .NET Framework can't ask for the first instance, but an instance of somebody else's pipe has their rules.
            if (isFirst && !IsSystems(pipe))
            {
                pipe.Dispose();
                throw new SecurityException("somebody else has the pipe " + Name);
            }
            return pipe;
#else
            PipeOptions options = isFirst ? PipeOptions.Asynchronous | PipeOptions.FirstPipeInstance : PipeOptions.Asynchronous;
            return NamedPipeServerStreamAcl.Create(Name, PipeDirection.InOut, MaxInstances, PipeTransmissionMode.Byte,
                options, 0, 0, Rules());
#endif
        }

        private static bool IsSystems(PipeStream pipe)
        {
            IdentityReference owner = pipe.GetAccessControl().GetOwner(typeof(SecurityIdentifier));
            return owner.Equals(new SecurityIdentifier(WellKnownSidType.LocalSystemSid, null));
        }
    }
}
