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
        /// <summary>Longer than any command.</summary>
        private const int MaxLine = 512;
        /// <summary>An interface sends at once; who does not, only holds a place.</summary>
        private static readonly TimeSpan LineLimit = TimeSpan.FromSeconds(10);

        private readonly Commands commands;
        private readonly Action<Exception> failed;
        private readonly CancellationTokenSource stopping = new CancellationTokenSource();

        /// <summary>Begins to serve. Throws if somebody else has the name: then the service doesn't start.</summary>
        /// <param name="commands">Does what is asked.</param>
        /// <param name="failed">Is told if a place for connections is lost.</param>
        internal ServicePipe(Commands commands, Action<Exception> failed)
        {
            this.commands = commands;
            this.failed = failed;
            for (int i = 0; i < MaxConnections; i++)
            {
                NamedPipeServerStream pipe = Open();
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
                IdentityReference owner = pipe.GetAccessControl().GetOwner(typeof(SecurityIdentifier));
                if (!owner.Equals(new SecurityIdentifier(WellKnownSidType.LocalSystemSid, null)))
                {
                    throw new SecurityException("the pipe is not the service's but " + owner + "'s");
                }
                byte[] question = Encoding.UTF8.GetBytes(line + "\n");
                pipe.Write(question, 0, question.Length);
                return new StreamReader(pipe, Encoding.UTF8).ReadLine();
            }
        }

        private async Task Serve(NamedPipeServerStream next)
        {
            try
            {
                while (true)
                {
                    await ServeOne(next).ConfigureAwait(false);
                    if (stopping.IsCancellationRequested)
                    {
                        return;
                    }
                    next = Open();
                }
            }
            catch (Exception error)
            {
                failed(error);
            }
        }

        private async Task ServeOne(NamedPipeServerStream pipe)
        {
            try
            {
                using (pipe)
                {
                    await pipe.WaitForConnectionAsync(stopping.Token).ConfigureAwait(false);
                    using (CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(stopping.Token))
                    {
                        limit.CancelAfter(LineLimit);
                        string line = await ReadLine(pipe, limit.Token).ConfigureAwait(false);
                        string answer = await commands.Answer(line, IsAdministrator(pipe), stopping.Token).ConfigureAwait(false);
                        byte[] bytes = Encoding.UTF8.GetBytes(answer + "\n");
                        await pipe.WriteAsync(bytes, 0, bytes.Length, stopping.Token).ConfigureAwait(false);
                        pipe.WaitForPipeDrain();
                    }
                }
            }
            catch (IOException)
            {
                // Who asked has gone, or said too much.
            }
            catch (OperationCanceledException)
            {
                // Too slow, or the service stops.
            }
        }

        /// <summary>Reads up to the end of a line. The pipe is closed with the token, which also ends a read that Windows can't cancel.</summary>
        internal static async Task<string> ReadLine(Stream stream, CancellationToken cancellationToken)
        {
            byte[] line = new byte[MaxLine];
            int length = 0;
            using (cancellationToken.Register(stream.Dispose))
            {
                while (length < MaxLine)
                {
                    int read;
                    try
                    {
                        read = await stream.ReadAsync(line, length, 1, cancellationToken).ConfigureAwait(false);
                    }
                    catch (ObjectDisposedException)
                    {
                        throw new OperationCanceledException(cancellationToken);
                    }
                    if (read == 0)
                    {
                        throw new EndOfStreamException("no line came");
                    }
                    if (line[length] == '\n')
                    {
                        return Encoding.UTF8.GetString(line, 0, length).TrimEnd('\r');
                    }
                    length++;
                }
            }
            throw new IOException("a line is longer than " + MaxLine + " bytes");
        }

        /// <summary>Whether the other side has elevated rights; without them an administrator's token doesn't have the role.</summary>
        private static bool IsAdministrator(NamedPipeServerStream pipe)
        {
            bool answer = false;
            pipe.RunAsClient(() =>
            {
                using (WindowsIdentity identity = WindowsIdentity.GetCurrent(true))
                {
                    answer = identity != null && new WindowsPrincipal(identity).IsInRole(WindowsBuiltInRole.Administrator);
                }
            });
            return answer;
        }

        private static NamedPipeServerStream Open()
        {
#if NETFRAMEWORK
            return new NamedPipeServerStream(Name, PipeDirection.InOut, MaxConnections, PipeTransmissionMode.Byte,
                PipeOptions.Asynchronous, 0, 0, Rules());
#else
            return NamedPipeServerStreamAcl.Create(Name, PipeDirection.InOut, MaxConnections, PipeTransmissionMode.Byte,
                PipeOptions.Asynchronous, 0, 0, Rules());
#endif
        }
    }
}
