// docs/streaming.md's loop in a program. See ../streaming_peer.py.
import com.google.protobuf.util.JsonFormat;
import holdfast.v1.Generate.*;
import holdfast.v1.GenerateServiceGrpc;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;

class Main {
  static void show(GenerateResponse response) throws Exception {
    System.out.println(JsonFormat.printer().omittingInsignificantWhitespace().print(response));
  }

  static void read(
      GenerateServiceGrpc.GenerateServiceBlockingStub blockingStub, GenerateRequest request)
      throws Exception {
    // SNIPPET
    show(finished);
    Message.Builder message = Message.newBuilder().setRole("assistant");
    if (calls.isEmpty()) {
      message.setContent(text.toString());
    } else {
      if (text.length() > 0) {
        message.addPartsBuilder().setText(text.toString());
      }
      calls.values().forEach(call -> message.addPartsBuilder().setToolCall(call));
    }
    show(finished.toBuilder().setMessage(message).build());
  }

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel =
        Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
    GenerateRequest.Builder request = GenerateRequest.newBuilder();
    JsonFormat.parser().merge(arguments[1], request);
    try {
      read(GenerateServiceGrpc.newBlockingStub(channel), request.build());
    } catch (StatusRuntimeException e) {
      System.out.println("error " + e.getStatus().getCode().value());
    }
    channel.shutdownNow();
  }
}
